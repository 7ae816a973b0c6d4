# docker build -t evenkeel .
# docker run -v ./evenkeel.toml:/etc/evenkeel/evenkeel.toml:ro -v evenkeel:/var/lib/evenkeel -p 127.0.0.1:7380:7380 evenkeel
#
# There is no HEALTHCHECK: an orchestrator asks GET /healthz and GET /readyz. Where only a command can ask, let it be
# `evenkeel status`, as in deploy/compose.yaml.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# What .dockerignore lets through: the sources, and nothing that was built elsewhere.
COPY . .
RUN cargo build --release --locked --bin evenkeel

FROM debian:bookworm-slim
# The journal's place: a volume that is mounted here for the first time takes the owner over.
RUN install -d -o 65532 -g 65532 /var/lib/evenkeel
COPY --from=build /src/target/release/evenkeel /usr/local/bin/evenkeel
# No name is needed for it.
USER 65532:65532
# Goes before http.listen of the file. Inside a container the default, 127.0.0.1, is reached by nobody.
ENV EVENKEEL_LISTEN=0.0.0.0:7380
EXPOSE 7380
ENTRYPOINT ["/usr/local/bin/evenkeel"]
CMD ["run", "--config", "/etc/evenkeel/evenkeel.toml"]
