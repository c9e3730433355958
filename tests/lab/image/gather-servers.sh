#!/bin/sh
# Runs while the images of real servers are built: copies nginx, Redis and PostgreSQL with their libraries below /out,
# each on top of a busybox.
set -eu

take() { # take ROOT PROGRAM...: programs with all libraries they load
    root=/out/$1
    shift
    for program; do
        mkdir -p "$root${program%/*}"
        cp -aL "$program" "$root$program"
        ldd "$program" 2>/dev/null | tr -s '[:space:]' '\n' | grep '^/' | while read -r library; do
            mkdir -p "$root${library%/*}"
            cp -L "$library" "$root$library"
        done
    done
}

begin() { # begin ROOT
    root=/out/$1
    mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/usr/bin" "$root/run" "$root/var/log" "$root/data"
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    chroot "$root" /bin/busybox --install -s /bin
    printf 'root:x:0:0:root:/root:/bin/sh\nnginx:x:101:101::/:/bin/sh\nredis:x:102:102::/:/bin/sh\npostgres:x:999:999::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnginx:x:101:\nredis:x:102:\npostgres:x:999:\nnogroup:x:65534:\n' >"$root/etc/group"
}

begin nginx
take nginx /usr/sbin/nginx
mkdir -p /out/nginx/etc/nginx/conf.d /out/nginx/var/log/nginx /out/nginx/var/lib/nginx /out/nginx/usr/share/nginx/html
cp /etc/nginx/mime.types /out/nginx/etc/nginx/
printf 'events {}\nhttp {\n    include mime.types;\n    include conf.d/*.conf;\n}\n' >/out/nginx/etc/nginx/nginx.conf
chroot /out/nginx /usr/sbin/nginx -t

begin redis
take redis /usr/bin/redis-server /usr/bin/redis-cli
chown 102:102 /out/redis/data
chroot /out/redis /usr/bin/redis-server --version

begin postgres
bin=$(echo /usr/lib/postgresql/*/bin)
share=/usr/share/postgresql/$(basename "${bin%/bin}")
take postgres "$bin/postgres" "$bin/initdb" "$bin/psql" "$bin/pg_isready" "$bin/pg_ctl"
mkdir -p "/out/postgres$share" "/out/postgres${bin%/bin}/lib" /out/postgres/docker-entrypoint-initdb.d
cp -a "$share/." "/out/postgres$share/"
for name in plpgsql dict_snowball; do take postgres "${bin%/bin}/lib/$name.so"; done
for program in postgres initdb psql pg_isready pg_ctl; do ln -s "$bin/$program" "/out/postgres/usr/bin/$program"; done
mkdir -p /out/postgres/var/lib/postgresql/data /out/postgres/run/postgresql /out/postgres/usr/share
cp -a /usr/share/zoneinfo /out/postgres/usr/share/ 2>/dev/null || true
chown -R 999:999 /out/postgres/var/lib/postgresql /out/postgres/run/postgresql
chroot /out/postgres /usr/bin/postgres --version
