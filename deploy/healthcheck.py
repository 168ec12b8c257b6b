#!/usr/bin/python3 -IS
"""Is the server of this container ready? Exit code 0: yes.

Asks SLIMPATH_HEALTHCHECK_URL, by default http://127.0.0.1:8000/v2/health/ready. Needs the standard library alone; -I
and -S keep it from reading what the environment or site-packages would add: it runs every few seconds.
"""

import os
import sys
import urllib.error
import urllib.request

URL = os.environ.get("SLIMPATH_HEALTHCHECK_URL", "http://127.0.0.1:8000/v2/health/ready")


def ready(url: str) -> bool:
    """Does it answer 200 within three seconds?"""
    try:
        # No proxy: the answer has to come from this container.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=3) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(0 if ready(URL) else 1)
