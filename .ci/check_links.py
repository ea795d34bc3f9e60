"""Check that each link between the pages of the documentation leads somewhere.

python .ci/check_links.py HTML

Looks at files and at the places in them that a link names.
"""

import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LINK = re.compile(r'(?:href|src)="([^"]+)"')
_PLACE = re.compile(r'(?:id|name)="([^"]+)"')


@cache
def places(page: Path) -> frozenset[str]:
    """Return the names of the places in a page."""
    return frozenset(_PLACE.findall(page.read_text("utf-8")))


def is_broken(page: Path, link: str) -> bool:
    """Tell whether a link leads nowhere; those to other sites are left out."""
    parts = urlsplit(link.replace("&amp;", "&"))
    if parts.scheme or parts.netloc:
        return False
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return True
    named = unquote(parts.fragment)
    return bool(named) and target.suffix == ".html" and named not in places(target)


def main() -> None:
    """Print the broken links, and exit with 1 if there are any."""
    root = Path(sys.argv[1]).resolve()
    count, broken = 0, []
    for page in sorted(root.rglob("*.html")):
        links = set(_LINK.findall(page.read_text("utf-8")))
        count += len(links)
        broken += [
            f"{page.relative_to(root)}: {link}"
            for link in sorted(links)
            if is_broken(page, link)
        ]
    print(*broken, f"{count} links, {len(broken)} broken", sep="\n")
    sys.exit(bool(broken) or not count)


if __name__ == "__main__":
    main()
