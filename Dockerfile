# Builds the one program `hutong` and an image that holds it and the contracts, nothing else.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# rust-toolchain.toml stays out (see .dockerignore): the base image is the toolchain.
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY tests tests
COPY schemas schemas
COPY deploy deploy
# `hutong explain` prints its sections.
COPY RUNBOOK.md RUNBOOK.zh-CN.md ./
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package hutong --bin hutong \
 && install -D target/release/hutong /out/hutong

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /etc/hutong --shell /usr/sbin/nologin hutong
COPY --from=build /out/hutong /usr/local/bin/hutong
COPY schemas /etc/hutong/schemas
# hutong.toml is mounted here; the contracts it names lie beside it.
WORKDIR /etc/hutong
USER hutong
EXPOSE 9464
ENTRYPOINT ["hutong"]
CMD ["run"]
