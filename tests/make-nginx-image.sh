#!/bin/sh
# Makes an `nginx` image (docker-archive tar) from Debian's nginx-light and the libraries it needs. Needs no root and no registry of images.
# Usage: make-nginx-image.sh OUT.tar
set -eu
out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root" "$work/debs" "$work/image"

# The packages' files, unpacked but not installed.
(cd "$work/debs" && apt-get download -q nginx-light nginx nginx-common busybox-static >/dev/null 2>&1) || {
    echo "make-nginx-image: apt-get can't download nginx-light; run apt-get update first" >&2
    exit 1
}
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
[ -x "$root/usr/sbin/nginx" ] || { echo "make-nginx-image: the package holds no nginx" >&2; exit 1; }

# The libraries that the program names; those that this machine lacks come from their packages.
if ldd "$root/usr/sbin/nginx" | grep -q 'not found'; then
    (cd "$work/debs" && apt-get download -q libpcre2-8-0 libssl3 zlib1g libcrypt1 >/dev/null 2>&1) || true
    for deb in "$work"/debs/lib*.deb "$work"/debs/zlib*.deb; do [ -f "$deb" ] && dpkg-deb -x "$deb" "$root"; done
fi
LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu:$root/usr/lib/aarch64-linux-gnu ldd "$root/usr/sbin/nginx" |
    sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\).*/\1/p' | sort -u | while read -r library; do
    case $library in "$root"*) continue ;; esac
    [ -e "$root$library" ] || { mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"; }
done
for library in libnss_files.so.2; do
    found=$(find /lib /usr/lib -name $library 2>/dev/null | head -n 1)
    [ -n "$found" ] && mkdir -p "$root$(dirname "$found")" && cp -L "$found" "$root$found"
done

rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/etc/nginx/modules-enabled"
mkdir -p "$root/etc" "$root/tmp" "$root/run" "$root/bin" "$root/usr/bin" "$root/var/log/nginx" "$root/var/lib/nginx" "$root/usr/share/nginx/html"
[ -e "$root/bin/sh" ] || ln -sf busybox "$root/bin/sh"
printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n' >"$root/etc/group"
cat >"$root/etc/nginx/nginx.conf" <<'CONF'
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 256; }
http {
    include /etc/nginx/mime.types;
    access_log /dev/stdout;
    server {
        listen 80 default_server;
        root /usr/share/nginx/html;
        index index.html;
    }
}
CONF
[ -f "$root/usr/share/nginx/html/index.html" ] ||
    printf '<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head>\n<body><h1>Welcome to nginx!</h1></body></html>\n' \
        >"$root/usr/share/nginx/html/index.html"

tar --numeric-owner --owner=0 --group=0 --sort=name -C "$root" -cf "$work/image/layer.tar" .
digest=$(sha256sum "$work/image/layer.tar" | cut -d' ' -f1)
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
cat >"$work/image/config.json" <<CONFIG
{"architecture":"$arch","os":"linux","created":"1970-01-01T00:00:00Z",
 "config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"ExposedPorts":{"80/tcp":{}},
 "Cmd":["/usr/sbin/nginx","-g","daemon off;"],"StopSignal":"SIGQUIT","WorkingDir":"/"},
 "rootfs":{"type":"layers","diff_ids":["sha256:$digest"]},"history":[{"created_by":"nginx-light"}]}
CONFIG
printf '[{"Config":"config.json","RepoTags":["nginx:latest"],"Layers":["layer.tar"]}]\n' >"$work/image/manifest.json"
tar -C "$work/image" -cf "$out.partial" manifest.json config.json layer.tar
mv "$out.partial" "$out"
