"""The page at `/`: one file that asks this server alone, whose browser runs nothing else than what stands in it."""

import base64
import hashlib
import re
from pathlib import Path

from starlette.responses import Response

PAGE = Path(__file__).with_name("page.html")


def response() -> Response:
    """Return the page with a policy that names its script and its style by their digests."""
    text = PAGE.read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _digest("script", text),
        "style-src": _digest("style", text),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(text, media_type="text/html", headers=headers)


def _digest(element: str, text: str) -> str:
    """Return the digest of what stands in the page's only element of a name, as a policy has it."""
    (inside,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
