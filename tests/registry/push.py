#!/usr/bin/env python3
"""Pushes an image to a registry, as small and as odd as a test wants it, and prints its digest.

    push.py REGISTRY CA USER:PASSWORD NAME TAG TEXT SIZE [PLATFORM]

The image is lab/busybox:1 with one more layer: /text, which says TEXT, and SIZE random bytes. Its manifest stands in an
index, as it does for images that are built for several platforms. The password comes from the environment, as PASSWORD,
where it is given as `-`.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
import urllib.request

registry, ca, login, name, tag, text, size = sys.argv[1:8]
platform = sys.argv[8] if len(sys.argv) > 8 else "linux/amd64"
if login.endswith(":-"):
    login = login[:-1] + os.environ["PASSWORD"]
trust = ssl.create_default_context(cafile=ca)


def send(method, path, body=None, kind="application/octet-stream"):
    url = path if path.startswith("https:") else f"https://{registry}{path}"
    request = urllib.request.Request(url, data=body, method=method)
    request.add_header("Content-Type", kind)
    request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    return urllib.request.urlopen(request, context=trust, timeout=60)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blob(data):
    place = send("POST", f"/v2/{name}/blobs/uploads/", b"").headers["Location"]
    send("PUT", place + ("&" if "?" in place else "?") + "digest=" + digest(data), data)
    return {"digest": digest(data), "size": len(data)}


def layer(data):
    packed = gzip.compress(data, 1, mtime=0)
    return digest(data), dict(blob(packed), mediaType="application/vnd.oci.image.layer.v1.tar+gzip")


def base():
    """The layers of lab/busybox:1, as they are saved."""
    saved = subprocess.run(["docker", "save", "lab/busybox:1"], check=True, capture_output=True).stdout
    archive = tarfile.open(fileobj=io.BytesIO(saved))
    listed = json.load(archive.extractfile("manifest.json"))[0]
    config = json.load(archive.extractfile(listed["Config"]))
    return config, [archive.extractfile(member).read() for member in listed["Layers"]]


def top():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in [("text", text.encode()), ("weight", os.urandom(int(size)))]:
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


config, below = base()
layers = [layer(data) for data in below + [top()]]
# What it claims to weigh, for a host that has less room.
layers[-1][1]["size"] = int(os.environ.get("CLAIM", layers[-1][1]["size"]))
system, machine = platform.split("/")[:2]
config = {
    "os": system,
    "architecture": machine,
    "config": config["config"],
    "rootfs": {"type": "layers", "diff_ids": [each[0] for each in layers]},
}
oci = "application/vnd.oci.image."
manifest = json.dumps({
    "schemaVersion": 2,
    "mediaType": oci + "manifest.v1+json",
    "config": dict(blob(json.dumps(config).encode()), mediaType=oci + "config.v1+json"),
    "layers": [each[1] for each in layers],
}).encode()
send("PUT", f"/v2/{name}/manifests/{digest(manifest)}", manifest, oci + "manifest.v1+json")
index = json.dumps({
    "schemaVersion": 2,
    "mediaType": oci + "index.v1+json",
    "manifests": [{
        "mediaType": oci + "manifest.v1+json",
        "digest": digest(manifest),
        "size": len(manifest),
        "platform": {"os": system, "architecture": machine},
    }],
}).encode()
send("PUT", f"/v2/{name}/manifests/{tag}", index, oci + "index.v1+json")
print(digest(index), sum(each[1]["size"] for each in layers))
