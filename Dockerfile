# Builds the program from source and serves the visualiser and the HTTP interface as a user without privileges.
#
#   docker build -t brillm .
#   docker run -p 8137:8137 -e BRILLM_TOKEN=a-long-secret brillm
#   open http://localhost:8137/?token=a-long-secret
#
# Other models: docker run … -v "$PWD/models:/models:ro" brillm serve --host 0.0.0.0 --model /models/my.bril
FROM rust:1-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --locked --profile dist --bin brillm

FROM debian:bookworm-slim
RUN useradd --create-home --uid 10001 brillm
COPY --from=build /source/target/dist/brillm /usr/local/bin/brillm
COPY --from=build /source/LICENSE-MIT /source/LICENSE-APACHE /usr/share/doc/brillm/
USER brillm
WORKDIR /home/brillm
EXPOSE 8137
# An address that other machines reach needs a token: pass BRILLM_TOKEN, or the program ends with that advice.
ENTRYPOINT ["brillm"]
CMD ["serve", "--host", "0.0.0.0"]
# The image has no HTTP client: bash opens the connection. /health needs no token.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8137 && printf 'GET /health HTTP/1.1\\r\\nHost: localhost:8137\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
