#!/usr/bin/env bash
# The steps of action.yml: `install`, then `gate`. Whatever a user gives comes as INPUT_*, and is
# never evaluated. It runs with bash 3.2, too, which is what macOS has.
set -euo pipefail

# A virtual environment of its own leaves the job's TensorFlow alone.
environment="$RUNNER_TEMP/bncheck"
sarif="$RUNNER_TEMP/bncheck.sarif"

program() {
  if [ -d "$environment/Scripts" ]; then
    printf '%s' "$environment/Scripts/$1"
  else
    printf '%s' "$environment/bin/$1"
  fi
}

install() {
  local source="$GITHUB_ACTION_PATH"
  if [ -n "${INPUT_VERSION:-}" ]; then
    source="bncheck==$INPUT_VERSION"
  fi
  "${INPUT_PYTHON:-python3}" -m venv "$environment"
  "$(program python)" -m pip install --quiet --disable-pip-version-check "$source"
}

gate() {
  local command line code=0
  INPUT_ARGS="${INPUT_ARGS:-}"
  command=("$(program bncheck)" gate --report "sarif=$sarif")
  if [ -n "${INPUT_CONFIG:-}" ]; then
    command+=(--config "$INPUT_CONFIG")
  fi
  if [ -n "${INPUT_FAIL_ON:-}" ]; then
    command+=(--fail-on "$INPUT_FAIL_ON")
  fi
  if [ -n "${INPUT_ARGS//[[:space:]]/}" ]; then
    if ! line="$(printf '%s\n' "$INPUT_ARGS" | xargs printf '%s\n')"; then
      echo "bncheck: the input args has a quote that does not end" >&2
      return 2 # 1 would say that there are findings
    fi
    while IFS= read -r line; do
      command+=("$line")
    done <<<"$line"
  fi
  command+=(--)
  while IFS= read -r line; do
    line="${line%$'\r'}"
    if [ -n "${line//[[:space:]]/}" ]; then
      command+=("$line")
    fi
  done <<<"${INPUT_PATHS:-}"
  if [ "${INPUT_SUMMARY:-true}" != true ]; then
    unset GITHUB_STEP_SUMMARY
  fi

  rm -f "$sarif" # an earlier use of the action in the same job may have left one
  "${command[@]}" || code=$?
  echo "exit-code=$code" >>"$GITHUB_OUTPUT"
  if [ -f "$sarif" ]; then
    echo "sarif=$sarif" >>"$GITHUB_OUTPUT"
  fi
  return "$code"
}

case "${1:-}" in
  install | gate) "$1" ;;
  *)
    echo "usage: action.sh install|gate" >&2
    exit 2
    ;;
esac
