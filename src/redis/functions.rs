//! Libraries of functions: which a node has, and how it gets one.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{CallError, Conn, Value};

/// Libraries of functions by name, each with its text.
pub type Libraries = BTreeMap<String, Bytes>;

impl Conn {
    /// `FUNCTION LIST WITHCODE`: every library of the node; none where the server knows no functions (before 7.0).
    pub async fn libraries(&self) -> Result<Libraries, CallError> {
        let words = vec![Bytes::from_static(b"LIST"), Bytes::from_static(b"WITHCODE")];
        match self.call("FUNCTION", words).await {
            Ok(Value::Array(libraries)) => libraries.into_iter().map(|library| self.library(library)).collect(),
            Ok(Value::Null | Value::Integer(_) | Value::Bytes(_)) => Err(self.unexpected("FUNCTION LIST", "no list")),
            Err(CallError::Refused { text, .. }) if text.contains("unknown command") => Ok(Libraries::new()),
            Err(error) => Err(error),
        }
    }

    /// One library of the listing: names of fields and their values in turn.
    fn library(&self, fields: Value) -> Result<(String, Bytes), CallError> {
        let Value::Array(fields) = fields else { return Err(self.unexpected("FUNCTION LIST", "no library")) };
        let field = |name: &str| {
            fields.chunks(2).find_map(|pair| match pair {
                [key, Value::Bytes(value)] if key.text() == Some(name) => Some(value.clone()),
                _ => None,
            })
        };
        let name = field("library_name").map(|name| String::from_utf8_lossy(&name).into_owned());
        match (name, field("library_code")) {
            (Some(name), Some(code)) => Ok((name, code)),
            _ => Err(self.unexpected("FUNCTION LIST", "a library without name or text")),
        }
    }

    /// `FUNCTION LOAD` of a library that the node does not have: its replicas get it too.
    pub async fn load_library(&self, code: Bytes) -> Result<(), CallError> {
        self.call("FUNCTION", vec![Bytes::from_static(b"LOAD"), code]).await.map(drop)
    }
}
