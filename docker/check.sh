#!/bin/bash
# Builds both images with buildah and uses them as a user would: no Docker engine is needed.
#
#   docker/check.sh [featurestore] [trainer]      both by default; as root, on Debian or Ubuntu:
#   apt-get install --no-install-recommends buildah debootstrap
#
# Settings, all optional, from the environment:
#   BASE_TAR      root file system for the base image; by default debootstrap makes one
#   MIRROR        Debian mirror for debootstrap
#   INDEX_FILE    the build's secret `index`: a shell file that sets UV_DEFAULT_INDEX, PIP_INDEX_URL, …
#   CA_FILE       the build's secret `ca`: certificates to trust
#   UV_CACHE_DIR  uv's cache of downloads to share with the build
#   WORK          where everything is put and removed again; 30 GB for the trainer
set -Eeuo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
wanted=${*:-featurestore trainer}
base=${WORK:-${TMPDIR:-/tmp}}
work=$(mktemp -d "$base/docker-check.XXXXXX")
# A storage of our own: what is on this machine is left alone, and all of it goes at the end.
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "%s"\n' "$work/storage" "$work/run" \
    >"$work/storage.conf"
export CONTAINERS_STORAGE_CONF=$work/storage.conf STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot TMPDIR=$work

clean_up() {
    buildah rm --all >/dev/null || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'echo "FAILED in line $LINENO: $BASH_COMMAND" >&2' ERR

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

make_base() {
    if [ -z "${BASE_TAR:-}" ]; then
        BASE_TAR=$work/base.tar
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
            "$work/base" ${MIRROR:+"$MIRROR"} >"$work/debootstrap.log" || fail "debootstrap: $(tail -3 "$work/debootstrap.log")"
        rm -rf "$work"/base/var/{cache/apt/archives/*.deb,lib/apt/lists/*} "$work"/base/usr/share/{doc,man,locale}/*
        tar -C "$work/base" --numeric-owner -cf "$BASE_TAR" .
        rm -rf --one-file-system "$work/base"
    fi
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$BASE_TAR" / >/dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit --quiet --rm "$container" localhost/python-base >/dev/null
}

build_image() {
    local secrets=()
    [ -z "${INDEX_FILE:-}" ] || secrets+=(--secret "id=index,src=$INDEX_FILE")
    [ -z "${CA_FILE:-}" ] || secrets+=(--secret "id=ca,src=$CA_FILE")
    buildah bud --quiet --format docker --layers=false --file docker/Dockerfile --target "$1" \
        --build-arg PYTHON_IMAGE=localhost/python-base "${secrets[@]}" --tag "localhost/$1" . >/dev/null
}

# start IMAGE: a container of it, in $container, with the volumes of the check.
start() {
    container=$(buildah from "localhost/$1")
    # buildah 1.28 mounts either the image's volumes or those of `run`, whichever it sorts first.
    buildah config --volume /data- --volume /stores- "$container"
    entrypoint=$(buildah inspect --format '{{index .OCIv1.Config.Entrypoint 0}}' "$container")
}

# inside COMMAND…: as the image's own user, with the volumes that a user would mount.
inside() {
    buildah run --volume "$work/data:/data" --volume "$work/stores:/stores" "$container" -- "$@"
}

# program ARGUMENT…: what `docker run IMAGE ARGUMENT…` does.
program() { inside "$entrypoint" "$@"; }

check_pins() {
    buildah run --volume "$repository/constraints.txt:/tmp/constraints.txt:ro" "$container" -- \
        python3 - "$1" <<'PYTHON'
import importlib.metadata, pathlib, re, sys

lines = pathlib.Path("/tmp/constraints.txt").read_text().split()
normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
pinned = dict(line.split("==") for line in lines)
found = {normal(d.name): d.version for d in importlib.metadata.distributions(path=[p for p in sys.path if "/opt/" in p])}
ours = found.pop("featurestore")
wrong = {n: (v, pinned.get(n)) for n, v in found.items() if pinned.get(n) != v}
assert not wrong, f"not as pinned (installed, pinned): {wrong}"
assert ("torch" in found) == (sys.argv[1] == "trainer"), sorted(found)
print(f"featurestore {ours}, Python {sys.version.split()[0]}, {len(found)} packages, all as pinned")
PYTHON
}

check_user() {
    [ "$(inside id -u)" = 1000 ] || fail "$1 runs as user $(inside id -u)"
    buildah run --user 4321:4321 "$container" -- "$entrypoint" --help >/dev/null || fail "$1 needs its own user"
    ! inside touch /opt/venv/here 2>/dev/null || fail "$1 can change its own programs"
    # shellcheck disable=SC2016
    buildah run --user root "$container" -- sh -c 'test -z "$(ls -A /run/secrets /root/.cache /src /opt/uv 2>/dev/null)"' \
        || fail "$1 holds a secret, a cache or a tool of its build"
}

check_featurestore() {
    program --help >/dev/null
    program build --dataset synthetic --store /stores/synthetic.zarr --workers 2
    program info /stores/synthetic.zarr
    program verify /stores/synthetic.zarr --root /data/synthetic
    program plot /stores/synthetic.zarr --clip "$(first_clip)" --out /stores/clip.png
    check_cluster
}

# As in compose.yaml: a scheduler, a worker with its health check, and a build by them that a page follows.
check_cluster() {
    inside sh -e <<'CLUSTER'
dask scheduler --host=127.0.0.1 --port=0 --dashboard-address=127.0.0.1:0 --scheduler-file=/tmp/cluster.json 2>/tmp/scheduler.log &
scheduler=$!
timeout 60 sh -c 'until [ -s /tmp/cluster.json ]; do sleep 1; done' || { cat /tmp/scheduler.log; exit 1; }
dask worker --scheduler-file=/tmp/cluster.json --nthreads=1 --preload=featurestore --host=127.0.0.1 --local-directory=/tmp 2>/tmp/worker.log &
worker=$!
address=$(python3 -c 'import json; print(json.load(open("/tmp/cluster.json"))["address"])')
health=$(python3 -c 'import json; print(json.load(open("/tmp/cluster.json"))["services"]["dashboard"])')
python3 -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:$health/health')"
featurestore browse /stores --port=0 >/tmp/page.txt 2>/tmp/page.log &
page=$!
timeout 60 sh -c 'until [ -s /tmp/page.txt ]; do sleep 1; done' || { cat /tmp/page.log; exit 1; }
python3 - "$(cat /tmp/page.txt)" <<'PAGE' &
import json, sys, time
from urllib.request import urlopen

assert b"app.js" in urlopen(sys.argv[1]).read()
seen, stop = [], time.monotonic() + 120
while ("complete", 144) not in seen:
    assert time.monotonic() < stop, seen
    stores = json.load(urlopen(sys.argv[1] + "data/stores.json"))["stores"]
    built = [d for s in stores if s["name"] == "cluster.zarr" for d in s["datasets"] if "state" in d]
    seen += [one for d in built if (one := (d["state"], d["counts"].get("ok", 0))) not in seen]
    time.sleep(0.05)
assert len(seen) > 1, "the page did not show the build as it went"
print("the page showed:", ", ".join(f"{ok} clips ({state})" for state, ok in seen))
PAGE
watch=$!
timeout 120 featurestore build --dataset synthetic --store /stores/cluster.zarr --scheduler "$address" || { cat /tmp/worker.log; exit 1; }
wait $watch
kill $page $worker $scheduler
wait
CLUSTER
    diff --recursive "$work/stores/synthetic.zarr" "$work/stores/cluster.zarr" || fail "a cluster built another store"
}

first_clip() {
    inside python3 -c 'import featurestore; print(featurestore.open_store("/stores/synthetic.zarr").clips().clip_id[0])'
}

check_trainer() {
    program --help >/dev/null
    [ -e "$work/stores/synthetic.zarr" ] || inside featurestore build --dataset synthetic --workers 2
    program run --store /stores/synthetic.zarr --method baseline --fold 1 --epochs-scale 0.001 \
        --arch resnet18 --init random --device cpu --batch-size 16 --out /stores/runs/check
    inside python3 -c 'import torch; assert torch.version.cuda, "no CUDA build"; print("torch", torch.__version__)'
}

say "base image"
make_base
install -d -o 1000 -g 1000 "$work/data" "$work/stores"
if [ -n "${UV_CACHE_DIR:-}" ]; then
    mkdir "$work/buildah-cache" && ln -s "$UV_CACHE_DIR" "$work/buildah-cache/uv"
fi
for image in $wanted; do
    say "$image: build"
    build_image "$image"
    buildah images --format '{{.Name}}: {{.Size}}' "localhost/$image"
    start "$image"
    say "$image: check"
    check_pins "$image"
    check_user "$image"
    "check_$image"
    buildah rm "$container" >/dev/null
    buildah rmi "localhost/$image" >/dev/null
done
say "passed: $wanted; disk used: $(du -sh "$work" | cut -f1)"
