# One unit of the run as a job: called with prepare, trial (of a job array) or collect.
#
# Whatever happens here must also work where no program of ours starts, so nodes are judged in this script.
set -u
unit=$1
state=$run/executor
node=${SLURMD_NODENAME:-$(uname -n)}
if [[ $unit == trial ]]; then
    # A task of an array is named so; the plain number of its last task would mean all of them.
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    name=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$state/trials")
    only=trial:$name
else
    job=$SLURM_JOB_ID name=$unit only=$unit
fi
mkdir -p "$run/logs"
exec >>"$run/logs/$name.log" 2>&1
echo "-- $(date '+%F %T') job $job on $node, restart ${SLURM_RESTART_COUNT:-0}"

# An empty file an event, of a name of its own: no two nodes write one file.
event() {
    mkdir -p "$state/attempts/$name/$node" && : >"$state/attempts/$name/$node/$1-$(date +%s)-$SLURM_JOB_ID.$$"
}
put() {
    echo "$2" >"$1.$job" && mv "$1.$job" "$1"
}
failures() {
    find "$@" -name 'failed-*' 2>/dev/null | wc -l
}
failures_of_good_nodes() {
    local all=0 place
    for place in "$state/attempts/$name"/*; do
        [[ -e $state/excluded/${place##*/} ]] || all=$((all + $(failures "$place")))
    done
    echo "$all"
}
# Nodes of the partition, a line each, but for those in the arguments.
other_nodes() {
    sinfo -h -N -t idle,mixed,allocated,completing -p "$SLURM_JOB_PARTITION" -o %N | sort -u |
        grep -vxF -f <(printf '%s\n' "$@")
}
# Nodes that a job is to stay away from: those that it is told to, those that failed everything, and those where
# this unit failed, as far as there are others left to run on.
avoided_nodes() {
    local own told broken failed nodes
    own=$(scontrol show job "$job" -o | grep -o 'ExcNodeList=[^ ]*' | cut -d= -f2 | grep -v '^(null)$')
    mapfile -t told < <([[ -z $own ]] || scontrol show hostnames "$own")
    mapfile -t broken < <(ls "$state/excluded" 2>/dev/null)
    mapfile -t failed < <(find "$state/attempts/$name" -name 'failed-*' ! -name 'failed-130-*' -printf '%h\n' 2>/dev/null |
        sed 's|.*/||' | sort -u)
    for nodes in "${told[*]} ${broken[*]} ${failed[*]}" "${told[*]} ${broken[*]}" "${told[*]}"; do
        # shellcheck disable=SC2086 # words
        if other_nodes $nodes | grep -q .; then
            printf '%s\n' $nodes | sort -u | paste -sd,
            return
        fi
    done
}
# A controller that starts anew does not answer for a while.
patiently() {
    local try
    for try in 1 2 3 4 5 6; do
        "$@" && return
        ((try == 6)) || sleep 10
    done
    return 1
}
again() {
    local nodes
    nodes=$(avoided_nodes)
    echo "-- queued again${nodes:+, not on $nodes}"
    # SLURM signals the whole group as soon as the job is queued again, and the next call must still be made.
    trap '' TERM USR1
    patiently scontrol requeue "$job" || exit 1
    [[ -z $nodes ]] || scontrol update "jobid=$job" "ExcNodeList=$nodes"
    exit 0
}

# Three different units failed here and none succeeded: it is the node, if there is another one.
blame_node() {
    local failed broken
    find "$state/attempts" -path "*/$node/done-*" 2>/dev/null | grep -q . && return
    failed=$(find "$state/attempts" -path "*/$node/failed-*" ! -name 'failed-130-*' 2>/dev/null |
        sed 's|/[^/]*/[^/]*$||' | sort -u | wc -l)
    mapfile -t broken < <(ls "$state/excluded" 2>/dev/null)
    if ((failed >= 3)) && other_nodes "$node" "${broken[@]}" | grep -q .; then
        echo "-- $failed different units failed on $node and none succeeded: the node is avoided from here on"
        mkdir -p "$state/excluded" && : >"$state/excluded/$node"
        # Tasks of the array that wait, those that were queued again included; running ones are refused.
        [[ $unit != trial ]] || scontrol update "jobid=$SLURM_ARRAY_JOB_ID" "ExcNodeList=$(avoided_nodes)" 2>/dev/null
    fi
}
failed() {
    if grep -qs '"diverged"' "$run/trials/$name/failure.json"; then
        echo '-- it would diverge again, on any node'
        exit "$1"
    fi
    event "failed-$1"
    blame_node
    if (($1 == 2)); then
        echo '-- it would be refused again'
    # Failures on a node that turned out to be broken are not the trial's, up to a point.
    elif (($(failures_of_good_nodes) <= retries && $(failures "$state/attempts/$name") <= 2 * retries + 4)); then
        again
    fi
    exit "$1"
}

[[ ! -e $state/cancelled ]] || exit 130
[[ ! -e $state/excluded/$node ]] || again
if [[ $unit == collect && ! -e $state/prepared ]]; then
    echo 'error: data and base were not prepared; see prepare.log'
    exit 1
fi

child='' stopped=''
pass_on() {
    stopped=1
    [[ -z $child ]] || kill -TERM "$child" 2>/dev/null
}
trap pass_on TERM USR1
# Where results are too: clocks of two file systems may differ.
begun=$(mktemp "$state/.begun.XXXXXX")
"${neutral[@]}" --only "$only" --threads "${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}" &
child=$!
[[ -z $stopped ]] || pass_on
# A signal ends `wait` early; the status of the child is known once it is gone.
while kill -0 "$child" 2>/dev/null; do wait "$child"; done
wait "$child"
code=$?
made=("$run/results.json")
# A training that has finished has weights or a record, and no checkpoint any more. Of all trials: one waits for those
# that it goes on from, or makes them.
[[ $unit != trial ]] || made=("$run"/trials/*/{checkpoint,training.json,record.json,neutrality.json,answers.json})
newer=$(find "${made[@]}" -newer "$begun" -print -quit 2>/dev/null)
rm -f "$begun"
echo "-- exit code $code"

case $unit-$code in
prepare-0) event done && put "$state/prepared" "$job" ;;
trial-0) event done ;;
# That trials failed is said by the results; without them something else failed.
collect-0) put "$state/collected" "$code" ;;
collect-1) if [[ -n $newer ]]; then put "$state/collected" "$code"; else failed "$code"; fi ;;
*-130)
    # Only a job that still counts as running queues itself again: when SLURM itself ends it, it knows whether to.
    patiently scontrol show job "$job" -o | grep -q 'JobState=RUNNING ' || exit 130
    [[ ! -e $state/cancelled ]] || exit 130
    # Without a new checkpoint it would go round for ever.
    [[ $unit != trial || -n $newer ]] || failed 130
    # Of the shared steps some are all or nothing, and may never fit into the time limit.
    [[ $unit == trial ]] || (($(find "$state/attempts/$name" -name 'stopped-*' 2>/dev/null | wc -l) < 100)) || failed 130
    event stopped
    again
    ;;
*) failed "$code" ;;
esac
exit "$code"
