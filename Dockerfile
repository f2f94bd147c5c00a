# For those who have a builder: docker build --build-arg VERSION=... -t cbagent .
# scripts/image.sh makes the same image without one.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ARG TARGETARCH
RUN GOARCH=$TARGETARCH VERSION=$VERSION scripts/build.sh /cbagent

FROM scratch
ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="cbagent" \
      org.opencontainers.image.description="eBPF-assisted circuit breaker for a node" \
      org.opencontainers.image.source="https://github.com/cbagent/cbagent" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT
COPY --from=build --chmod=555 /cbagent /cbagent
COPY LICENSE /LICENSE
COPY bpf/LICENSE /LICENSE.bpf
ENV PATH=/
USER 65532:65532
ENTRYPOINT ["/cbagent"]
