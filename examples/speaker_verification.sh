#!/bin/sh
# Speaker verification by commands alone: what speaker_verification.py does first, without Python.
#
#   sh examples/speaker_verification.sh [FOLDER]
#
# 240 telephone prompts in six voices (see data/LICENSE.txt). Every second prompt of each voice
# trains, the others are trials against the models of all voices. The models and the scores are
# kept in FOLDER.
set -eu

speech=$(dirname "$0")/data/prompts.h5
folder=${1:-$(mktemp -d)}
mkdir -p "$folder/models"

# a background model for the frames of all voices
gmmkit fit "$speech" --part 1/2 -n 64 -o "$folder/ubm.h5"

# a line for each prompt that is held out: its name and its log-likelihood
gmmkit score "$folder/ubm.h5" "$speech" --part 2/2 >"$folder/held-out.txt"
voices=$(cut -d / -f 1 "$folder/held-out.txt" | sort -u)

for voice in $voices; do
    gmmkit adapt "$folder/ubm.h5" "$speech:/$voice" --part 1/2 -o "$folder/models/$voice.h5"
done

# each prompt, claimed for each voice
for voice in $voices; do
    awk -F '[/\t]' -v voice="$voice" \
        '{ print voice, $1 "/" $2, ($1 == voice ? "target" : "nontarget") }' "$folder/held-out.txt"
done >"$folder/trials.txt"

gmmkit verify "$folder/trials.txt" "$speech" --prior 0.05 \
    --ubm "$folder/ubm.h5" --models "$folder/models/*.h5" -o "$folder/scores.txt"
