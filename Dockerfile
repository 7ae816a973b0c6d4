# docker build -t evenkeel .                              (buildah and podman: with --format docker, for the HEALTHCHECK)
# docker run -v ./evenkeel.toml:/etc/evenkeel/evenkeel.toml:ro -v evenkeel:/var/lib/evenkeel -p 127.0.0.1:7380:7380 evenkeel
#
# The image holds one static binary and one directory: no shell, no libraries. evenkeel trusts the certificates that its
# configuration names and brings its time zones along, so those of a system are not missed.

FROM rust:1.95-alpine AS build
WORKDIR /src
# What .dockerignore lets through: the sources, and nothing that was built elsewhere.
COPY . .
# What it can do beyond the default: a Lease of Kubernetes, a fifth more crates. --build-arg FEATURES= leaves it out.
ARG FEATURES=kubernetes
# On Alpine Rust links statically by itself.
RUN cargo build --release --locked --features "$FEATURES" --bin evenkeel \
    && install -D target/release/evenkeel /image/usr/local/bin/evenkeel \
    && install -d -o 65532 -g 65532 /image/var/lib/evenkeel

FROM scratch
# The binary, and the journal's place: a volume that is mounted there for the first time takes its owner over.
COPY --from=build /image /
# No name is needed for it.
USER 65532:65532
# Goes before http.listen of the file. Inside a container the default, 127.0.0.1, is reached by nobody.
ENV EVENKEEL_LISTEN=0.0.0.0:7380
EXPOSE 7380
# Whether the process is well, whatever the cluster does. evenkeel itself gives up on an answer after 8 seconds. Who lets it
# listen at another port sets EVENKEEL_URL as well.
HEALTHCHECK --interval=10s --timeout=10s --start-period=10s --retries=6 CMD ["/usr/local/bin/evenkeel", "status", "--health"]
ENTRYPOINT ["/usr/local/bin/evenkeel"]
CMD ["run", "--config", "/etc/evenkeel/evenkeel.toml"]
