#!/bin/sh
# EM by processes that share nothing but files, by commands alone (see independent_processes.py).
#
#   sh examples/independent_processes.sh [FOLDER]
#
# Three processes accumulate the statistics of a third of the speech each. The statistics are added,
# and the next model is estimated from them. That is one step of `gmmkit fit`. On a cluster, an
# array job runs the first command once for each part.
set -eu

speech=$(dirname "$0")/data/prompts.h5
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"

gmmkit fit "$speech" -n 16 --max-fitting-steps 0 -o "$folder/start.h5" --quiet

cp "$folder/start.h5" "$folder/model.h5"
for step in 1 2 3; do
    processes=
    for part in 1 2 3; do
        gmmkit accumulate "$folder/model.h5" "$speech" --part $part/3 \
            -o "$folder/stats-$part.h5" --quiet &
        processes="$processes $!"
    done
    for process in $processes; do
        wait "$process" # fails if the process has failed
    done
    gmmkit merge "$folder"/stats-?.h5 -o "$folder/stats.h5"
    gmmkit estimate "$folder/model.h5" "$folder/stats.h5" -o "$folder/model.h5"
done
