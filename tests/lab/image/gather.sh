#!/bin/sh
# Runs while the tiny images are built: copies just what they need below /out.
set -eu
for root in /out/busybox /out/python; do
    mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/usr/bin" "$root/root" "$root/data"
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    chroot "$root" /bin/busybox --install -s /bin
    printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n' >"$root/etc/group"
done
python=$(readlink -f /usr/bin/python3)
lib=/usr/lib/${python##*/}
mkdir -p "/out/python/usr/lib"
cp -a "$python" /out/python/usr/bin/
ln -s "${python##*/}" /out/python/usr/bin/python3
cp -a "$lib" /out/python/usr/lib/
find /out/python/usr/lib -name __pycache__ -prune -exec rm -rf {} +
{ ldd "$python"; find "$lib/lib-dynload" -name '*.so' -exec ldd {} \; ; } | tr -s '[:space:]' '\n' | grep '^/' | sort -u |
    while read -r so; do
        mkdir -p "/out/python${so%/*}"
        cp -L "$so" "/out/python$so"
    done
chroot /out/python /usr/bin/python3 -c 'import sqlite3, http.server, json, ssl'
