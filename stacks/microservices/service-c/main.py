import os
from urllib.request import urlopen

from service import serve


def page():
    said = [urlopen(os.environ[name], timeout=2).read().decode().strip() for name in ("SERVICE_A", "SERVICE_B")]
    return "<!doctype html><h1>" + " and ".join(said) + "</h1>\n"


serve({"/": page})
