#!/bin/sh
# Measure the guard on labelled rows, and keep each report by its date:
#   evaluate ROWS REPORTS [OPTIONS of `safechat eval guard`]
set -eu

rows=$1
report=$2/$(date -u +%Y-%m-%dT%H%M%SZ)
shift 2
mkdir -p "$report"
safechat eval guard --data "$rows" --json --plots "$report" "$@" >"$report/figures.new"
mv "$report/figures.new" "$report/figures.json"
echo "$report/figures.json"
