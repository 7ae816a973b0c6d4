use tokio::net::TcpListener;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A connection to somebody who reads one command for each of these texts, answers with it, and then closes.
async fn answered_with(replies: Vec<&'static [u8]>) -> Wire {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for reply in replies {
            let mut asked = [0; 256];
            let _ = stream.read(&mut asked).await.unwrap();
            stream.write_all(reply).await.unwrap();
        }
    });
    Wire::connect(&address, None).await.unwrap()
}

async fn ask(wire: &Wire) -> Result<Reply, String> {
    wire.call("PING", &[], SOON).await
}

fn bytes(text: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn every_kind_of_reply_is_read() {
    let check = async |reply: &'static [u8], expect: Reply| {
        assert_eq!(ask(&answered_with(vec![reply]).await).await, Ok(expect), "{}", String::from_utf8_lossy(reply));
    };
    check(b"+PONG\r\n", Ok(bytes("PONG"))).await;
    check(b"-NOPERM no\r\n", Err("NOPERM no".to_owned())).await;
    check(b":-7\r\n", Ok(Value::Integer(-7))).await;
    check(b"$-1\r\n", Ok(Value::Null)).await;
    check(b"*-1\r\n", Ok(Value::Null)).await;
    check(b"$0\r\n\r\n", Ok(bytes(""))).await;
    check(b"$7\r\nred\r\nis\r\n", Ok(bytes("red\r\nis"))).await;
    let list = Value::Array(vec![bytes("a"), Value::Array(vec![Value::Integer(1), Value::Null])]);
    check(b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n", Ok(list)).await;
    check(
        b"*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n",
        Ok(Value::Array(vec![bytes("message"), Value::Integer(1), Value::Integer(2)])),
    )
    .await;
}

#[tokio::test]
async fn what_is_no_reply_ends_the_connection() {
    let check = async |reply: &'static [u8], expect: &str| {
        let wire = answered_with(vec![reply, b"+PONG\r\n"]).await;
        let why = ask(&wire).await.unwrap_err();
        assert!(why.contains(expect), "{why}");
        assert!(wire.is_closed());
        assert_eq!(ask(&wire).await.unwrap_err(), "the connection was closed after an earlier failure");
    };
    check(b"HTTP/1.1 400 Bad Request\r\n", "it does not answer as a server does: ").await;
    check(b"$x\r\n", "it does not answer as a server does: ").await;
    check(b"+PONG\r\n+PONG\r\n", "more than the reply to one command").await;
    check(b"*1\r\n-ERR inside\r\n", "`ERR inside` in a list").await;
}

#[tokio::test]
async fn a_server_that_closes_is_noticed_without_asking_it() {
    let wire = answered_with(vec![b"+PONG\r\n"]).await;
    assert!(!wire.is_closed());
    assert_eq!(ask(&wire).await, Ok(Ok(bytes("PONG"))));
    let noticed = async {
        while !wire.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, noticed).await.expect("it closed");
    assert!(ask(&wire).await.is_err());
}

#[tokio::test]
async fn a_reply_that_is_late_is_nobodys() {
    let wire = answered_with(vec![b"", b"+LATE\r\n"]).await;
    let why = wire.call("PING", &[], Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(why, "no answer within 20ms");
    assert!(ask(&wire).await.is_err(), "the next call does not get it");
    // Nor when the call is dropped.
    let wire = answered_with(vec![b"", b"+LATE\r\n"]).await;
    assert!(tokio::time::timeout(Duration::from_millis(20), ask(&wire)).await.is_err());
    assert!(wire.is_closed() && ask(&wire).await.is_err());
}

#[tokio::test]
async fn calls_at_the_same_time_take_turns() {
    let wire = answered_with(vec![b":1\r\n", b":2\r\n", b":3\r\n"]).await;
    let (first, second, third) = tokio::join!(ask(&wire), ask(&wire), ask(&wire));
    let expected = [1, 2, 3].map(|number| Ok(Ok(Value::Integer(number))));
    assert_eq!([first, second, third], expected);
}

#[tokio::test]
async fn commands_in_one_piece_have_a_reply_each() {
    let together = async |replies: Vec<&'static [u8]>| {
        answered_with(replies).await.call_together(&[("PING", &[]), ("EVAL", &[])], SOON).await
    };
    let expected = Ok(vec![Ok(bytes("OK")), Err("LATE".to_owned())]);
    assert_eq!(together(vec![b"+OK\r\n-LATE\r\n"]).await, expected);
    assert!(together(vec![b"+OK\r\n"]).await.is_err(), "one reply is missing");
    assert!(together(vec![b"+OK\r\n+OK\r\n+OK\r\n"]).await.is_err(), "one reply is too many");
}

#[test]
fn words_of_any_bytes_are_sent_as_they_are() {
    let sent = request(&[("AUTH", &[Bytes::from_static(b"a b"), Bytes::from_static(b"\r\n\xff")])]);
    assert_eq!(sent.unwrap()[..], b"*3\r\n$4\r\nAUTH\r\n$3\r\na b\r\n$3\r\n\r\n\xff\r\n"[..]);
}
