#!/usr/bin/env bash
# Builds the image without a Docker engine and tries it as its own user: doctor, a quickstart study of two
# trials, and a worker on a PostgreSQL whose password it reads from a secret file. As root, on Debian:
#   apt-get install buildah debootstrap postgresql
#   docker/try-image.sh
# pip builds with the settings it has on this machine; none of them stay in the image.
set -euo pipefail
cd "$(dirname "$0")/.."

SUITE=${SUITE:-bookworm}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
POSTGRES_BIN=${POSTGRES_BIN:-$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)}
PORT=${PORT:-15432}

work=$(mktemp -d "${TMPDIR:-/tmp}/jointsearch-image.XXXXXX")
chmod 755 "$work"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
store=(--root "$work/images" --runroot "$work/run")

clean_up() {
    [[ ! -d $work/postgres ]] || as_nobody "$POSTGRES_BIN/pg_ctl" -D "$work/postgres" -m fast stop > "$work/log" 2>&1 || true
    buildah "${store[@]}" rm --all > "$work/log" 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

as_nobody() { (cd / && setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"); }
quiet() { "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }

# a base with the Python it needs
quiet debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$SUITE" "$work/base" "$MIRROR"
rm -rf "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/*
base=$(buildah "${store[@]}" from scratch)
quiet buildah "${store[@]}" copy "$base" "$work/base" /
quiet buildah "${store[@]}" commit --rm "$base" localhost/base
rm -rf "$work/base"

# pip's settings here, from all its files and the environment, and the folders that they name
python3 -m pip config list | python3 -c '
import ast, sys
settings = {}
for line in sys.stdin:  # the environment comes first, and goes before the files
    key, _, value = line.strip().partition("=")
    if key.startswith((":env:.", "global.")):
        settings.setdefault(key.partition(".")[2], ast.literal_eval(value))
print("[global]", *(f"{key} = {value}" for key, value in settings.items()), sep="\n")
' > "$work/pip.conf"
mounts=()
while read -r path; do
    [[ ! -e $path ]] || mounts+=(--volume "$path:$path:ro")
done < <(
    sed -E 's|file://([^ ]+)/simple|\1|g' "$work/pip.conf" |  # the files of an index lie beside its pages
        grep -oE '(^|[ =])/[^ ]+' | grep -oE '/[^/ ].*' | sort -u
)

quiet buildah "${store[@]}" bud --network host --file docker/Dockerfile --tag localhost/jointsearch:tried \
    --build-arg BASE_IMAGE=localhost/base --build-arg TORCH_INDEX="${TORCH_INDEX-}" \
    --secret "id=pip.conf,src=$work/pip.conf" "${mounts[@]}" .
rm "$work/pip.conf"

# PostgreSQL on loopback, for which a password is asked
install -d -o nobody -g nogroup "$work/postgres"
mkdir "$work/secrets"
python3 -c 'import secrets; print(secrets.token_urlsafe(24))' > "$work/secrets/postgres-password"
chmod 644 "$work/secrets/postgres-password"
quiet as_nobody "$POSTGRES_BIN/initdb" -D "$work/postgres" --username=jointsearch --encoding=UTF8 \
    --auth=scram-sha-256 --pwfile="$work/secrets/postgres-password"
quiet as_nobody "$POSTGRES_BIN/pg_ctl" -D "$work/postgres" -w -l "$work/postgres/log" \
    -o "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c port=$PORT" start
chown 1000:1000 "$work/secrets/postgres-password"
chmod 400 "$work/secrets/postgres-password"

container=$(buildah "${store[@]}" from localhost/jointsearch:tried)
run() {  # OPTIONS -- COMMAND: in the image
    local options=()
    while [[ $1 != -- ]]; do options+=("$1"); shift; done
    shift
    printf '\n$ %s\n' "$*"
    buildah "${store[@]}" run "${options[@]}" "$container" -- "$@" 2>&1
}
on_postgres=(
    --env "JOINTSEARCH_STORAGE=postgresql://jointsearch@127.0.0.1:$PORT/postgres"
    --env JOINTSEARCH_STORAGE_PASSWORD_FILE=/run/secrets/postgres-password
    --volume "$work/secrets/postgres-password:/run/secrets/postgres-password:ro"
)

printf 'image: entry point %s, user %s, %s of files\n' \
    "$(buildah "${store[@]}" inspect --format '{{.OCIv1.Config.Entrypoint}}' "$container")" \
    "$(buildah "${store[@]}" inspect --format '{{.OCIv1.Config.User}}' "$container")" \
    "$(du -sh "$(buildah "${store[@]}" mount "$container")" | cut -f 1)"
run -- id
run -- sh -c 'command -v pip pip3 gcc cc make git || echo "no pip, compiler, make or git"; ls /etc/pip.conf 2>&1 || true'
run -- jointsearch doctor
printf '\nA study in the image alone:\n'
run -- jointsearch study start quickstart --trials 2
run -- jointsearch front quickstart
printf '\nA study on PostgreSQL, the password in a file that the user of the image alone may read:\n'
run "${on_postgres[@]}" -- jointsearch study create quickstart --trials 2
run "${on_postgres[@]}" -- jointsearch worker quickstart
run "${on_postgres[@]}" -- jointsearch study status quickstart
printf '\nThe same without the file:\n'
run --env "JOINTSEARCH_STORAGE=postgresql://jointsearch@127.0.0.1:$PORT/postgres" \
    -- jointsearch study status quickstart && exit 1 || printf 'exit status %s\n' "$?"
