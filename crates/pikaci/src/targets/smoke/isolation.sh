#!/bin/sh
# Looks for what another job wrote, and for a repository that is not this workspace's. `sh -eu`.

mark=.jericho-smoke-mark
if [ -e "$mark" ]; then
  echo "$mark is in this workspace: it is shared with the job that wrote it" >&2
  exit 1
fi
echo "nothing of the job before is in this workspace"

# Git looks upwards from the workspace, and the state root may lie in a repository of the user.
if ! command -v git >/dev/null; then
  echo "git is not installed, so no repository can be found"
elif [ -e .git ]; then
  echo "the workspace has a repository of its own"
elif found=$(git rev-parse --absolute-git-dir 2>/dev/null); then
  echo "git finds the repository $found above this workspace" >&2
  exit 1
else
  echo "git finds no repository above this workspace"
fi
