#!/usr/bin/env bash
# Asks pip-audit and npm audit for known faults of what is locked. Each needs its service (pypi.org or osv.dev, and
# registry.npmjs.org); one that does not answer is said and counts as not looked at (status 2), not as well.
#
#   scripts/audit.sh
#
# What is found and stays is written down, with its reason, in SECURITY.md ("Known findings").
set -uo pipefail
cd "$(dirname "$0")/.."
status=0

look() { # NAME COMMAND...: 0 nothing found, 1 something found, 2 not looked at
    local name=$1 out
    shift
    echo "== $name"
    out=$("$@" 2>&1)
    local ended=$?
    if [[ $ended -ne 0 ]] && grep -qiE 'ConnectionError|Max retries|HTTPError|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|audit endpoint returned an error|ServiceError|not found|404|Name or service not known|NewConnectionError' <<< "$out" \
        && ! grep -qE 'GHSA-|PYSEC-|CVE-' <<< "$out"; then
        echo "not looked at: its service did not answer, or it is not installed ($(tail -n 1 <<< "$out" | cut -c1-200))"
        [[ $status -eq 0 ]] && status=2
        return
    fi
    echo "$out"
    if [[ $ended -ne 0 ]]; then
        status=1
        return
    fi
    # pip-audit ends with 0, and "No known vulnerabilities found", where its service knows none of the packages
    local unknown
    unknown=$(grep -c 'could not be audited' <<< "$out")
    if [[ $unknown -gt 0 ]]; then
        echo "not looked at: $unknown of the packages, which its service did not find"
        [[ $status -eq 0 ]] && status=2
    fi
}

look "pip-audit of scripts/constraints.txt" pip-audit --requirement scripts/constraints.txt --no-deps --disable-pip --progress-spinner off
for folder in gemma_metamon/showdown/simulator/assets/server tests/npm; do
    if [[ -f $folder/package-lock.json ]]; then
        look "npm audit of $folder" npm audit --prefix "$folder" --omit dev
    fi
done
exit $status
