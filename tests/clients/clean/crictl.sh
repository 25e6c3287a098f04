#!/bin/bash
# What `crictl pull IMAGE` asks containerd, by hand: runtime.v1.ImageService/PullImage, gRPC over containerd's own socket.
set -euo pipefail
[ "$1" = pull ]
image=$2 length=${#2}

byte() { printf '%b' "\\x$(printf %02x "$1")"; }
request=$(mktemp) answer=$(mktemp)
trap 'rm -f "$request" "$answer"' EXIT
# Five bytes of gRPC (not compressed, the length), then PullImageRequest{image: ImageSpec{image: "..."}}.
{
  printf '\0\0\0\0'
  byte $((length + 4))
  printf '\x0a'
  byte $((length + 2))
  printf '\x0a'
  byte "$length"
  printf %s "$image"
} >"$request"
curl --silent --show-error --max-time 50 --http2-prior-knowledge --unix-socket /run/containerd/containerd.sock \
  --header 'content-type: application/grpc' --header 'te: trailers' --data-binary "@$request" \
  --dump-header "$answer" --output /dev/null http://localhost/runtime.v1.ImageService/PullImage
if ! grep --quiet --ignore-case '^grpc-status: 0' "$answer"; then
  cat "$answer" >&2
  exit 1
fi
