# syntax=docker/dockerfile:1
# The gateway as a container: `sluicegate serve`. It holds no policy and no secret; see docs/operations.md.
#
#   docker build -t sluicegate .
#   docker run --rm -p 8080:8080 -v FOLDER-OF-YOUR-POLICIES:/policy:ro sluicegate

# --- Compile. The C compiler of this image builds aws-lc; no other build tool is needed.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo ./.cargo
COPY src ./src
# Cargo.toml names the benchmark, so the file has to be there.
COPY benches ./benches
# The sample upstream of the demo is built into the binary.
COPY examples/sample ./examples/sample
# So is the download of the console's page.
COPY clients/javascript/src ./clients/javascript/src
# What the code is laid out by. The profile is of this image's compiler, on x86-64; elsewhere the build goes without.
COPY release ./release
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    release/build --bin sluicegate \
    && cp target/release/sluicegate /sluicegate

# --- Run. Nothing is installed here: the certificates come from the image above.
FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /sluicegate /usr/local/bin/sluicegate
# By number, so that an orchestrator can see that it is not root. It owns nothing in the image.
USER 65532:65532
ENV SLUICEGATE_LISTEN=0.0.0.0:8080 \
    SLUICEGATE_POLICY=/policy \
    SLUICEGATE_LOG=json
EXPOSE 8080
# Running downloads may finish, within `shutdown_grace`; give the container longer than that to stop.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/sluicegate", "health"]
ENTRYPOINT ["/usr/local/bin/sluicegate"]
CMD ["serve"]
