#!/bin/sh
# Makes sure of a browser for the tests of the web page: one on the PATH, or else Debian's Chromium, installed.
has_browser() {
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null 2>&1 && return 0
    done
    return 1
}

has_browser && exit 0
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null 2>&1; then
    echo "installing Chromium for the tests of the web page"
    { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1
fi
has_browser && exit 0
echo "The web page is tested in a browser: put chromium, chromium-browser or google-chrome on the PATH, and make test again." >&2
exit 1
