#!/usr/bin/env bash
# Builds the site of docs/ into build/site: a warning is an error, and so is a link that leads nowhere.
# `docs.sh serve` shows it on this machine, and again whenever a page changes.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" docs

export NO_MKDOCS_2_WARNING=1 # mkdocs-material tells of its successor at every start
if [ "${1:-}" = serve ]; then
    exec mkdocs serve
fi
mkdocs build --strict --quiet
python scripts/check_site.py build/site
