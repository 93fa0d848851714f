#!/usr/bin/env bash
# Trains LeNet over MPI on a slow network: a server and four workers, each in a network namespace of its own, joined by
# a switch with links of 100 Mbit/s in each direction (token buckets). Prints the updates per second of each codec, and
# with --target the seconds to an accuracy. Needs root, iproute2 and Open MPI; undoes what it set up.
#
#   bench/slow_link.sh                       updates per second
#   bench/slow_link.sh --target 0.85         and the time to 85 %
#
#   --rate 100mbit       of each link, as tc reads it
#   --updates 100        of each measurement
#   --case "CODEC PUBLISH_CODEC"
#                        against float32, in place of those that docs/performance.md shows; any number of them
#   --data fashion-mnist, --program build/release/lategrad
set -euo pipefail
cd "$(dirname "$0")/.."

workers=4
rate=100mbit
updates=100
target=
program=build/release/lategrad
data=(--data fashion-mnist)
# Gradients, then parameters; the first is what the others are compared with.
cases=("none none" "bf16+zstd bf16+zstd" "signsgd delta:qsgd:4" "topk:0.01 delta:topk:0.01")
asked=()
usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || usage
    case $1 in
    --rate) rate=$2 ;;
    --updates) updates=$2 ;;
    --target) target=$2 ;;
    --program) program=$2 ;;
    --data) data=(--data "$2") ;;
    --case) asked+=("$2") ;;
    *) usage ;;
    esac
    shift 2
done
[ ${#asked[@]} -eq 0 ] || cases=("none none" "${asked[@]}")
[ "$(id -u)" = 0 ] || { echo "bench/slow_link.sh: needs root, for network namespaces" >&2; exit 2; }
command -v tc >/dev/null || { echo "bench/slow_link.sh: needs tc: apt-get install iproute2" >&2; exit 2; }

net=lg$$ # of this run's own
out=$(mktemp -d)
host() { echo "$net-$1"; }
undo() {
    for i in $(seq 0 "$workers") switch; do ip netns del "$(host "$i")" 2>/dev/null || true; done
    rm -rf "$out"
}
trap undo EXIT

ip netns add "$(host switch)"
ip -n "$(host switch)" link add br0 type bridge
ip -n "$(host switch)" link set br0 up
for i in $(seq 0 "$workers"); do
    ip netns add "$(host "$i")"
    ip link add eth0 netns "$(host "$i")" type veth peer name "port$i" netns "$(host switch)"
    ip -n "$(host "$i")" link set lo up
    ip -n "$(host "$i")" addr add "10.77.0.$((i + 1))/24" dev eth0
    ip -n "$(host "$i")" link set eth0 up
    ip -n "$(host switch)" link set "port$i" master br0 up
    # One bucket on each side: up, and down.
    ip netns exec "$(host "$i")" tc qdisc add dev eth0 root tbf rate "$rate" burst 32kbit latency 400ms
    ip netns exec "$(host switch)" tc qdisc add dev "port$i" root tbf rate "$rate" burst 32kbit latency 400ms
done

# What mpirun takes for ssh: HOST COMMAND..., on a node with a name of its own.
cat >"$out/agent" <<AGENT
#!/bin/sh
ip=\$1; shift
name=$net-\$((\${ip##*.} - 1))
exec ip netns exec "\$name" unshare --uts sh -c "hostname \$name; \$*"
AGENT
chmod +x "$out/agent"
hosts=$(seq -s, -f '10.77.0.%g:1' 1 $((workers + 1)))

# run CASE NAME [options]: one training; its summary goes to $out/NAME/summary.json
run() {
    local gradients=${1% *} parameters=${1#* } name=$2
    shift 2
    "$out/agent" 10.77.0.1 "mpirun.openmpi --allow-run-as-root --host $hosts -n $((workers + 1)) \
        --mca plm_rsh_agent $out/agent --mca orte_keep_fqdn_hostnames 1 --mca btl tcp,self \
        --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 -x OMP_NUM_THREADS=1 \
        $(realpath "$program") train --model lenet ${data[*]} --lr 0.2 --quiet --json --out $out/$name --codec $gradients \
        --publish-codec $parameters $*" >"$out/$name.out" 2>"$out/$name.err" ||
        { cat "$out/$name.err" >&2; exit 1; }
}
field() { python3 -c "import json, sys; print(json.load(open('$out/$1/summary.json'))['$2'])"; }

echo "LeNet, $workers workers and a server over MPI, links of $rate in each direction, global batch 256, learning rate 0.2"
printf '%-10s  %-18s  %12s  %6s  %14s  %14s' --codec --publish-codec "updates/s" times "bytes received" "bytes sent"
[ -z "$target" ] || printf '  %12s  %6s' "s to $target" times
echo
first_rate=
first_seconds=
for i in "${!cases[@]}"; do
    run "${cases[$i]}" "rate$i" --updates "$updates" --eval-every 1000000
    rate_now=$(python3 -c "print($(field "rate$i" updates) / $(field "rate$i" seconds))")
    : "${first_rate:=$rate_now}"
    printf '%-10s  %-18s  %12.3f  %6.2f  %14s  %14s' "${cases[$i]% *}" "${cases[$i]#* }" "$rate_now" \
        "$(python3 -c "print($rate_now / $first_rate)")" "$(field "rate$i" bytes_received)" "$(field "rate$i" bytes_sent)"
    if [ -n "$target" ]; then
        run "${cases[$i]}" "target$i" --target-accuracy "$target" --time-limit 30m --eval-every 20
        if [ "$(field "target$i" outcome)" = "target accuracy" ]; then
            seconds=$(field "target$i" seconds)
            printf '  %12.1f' "$seconds"
            [ "$i" != 0 ] || first_seconds=$seconds
            [ -z "$first_seconds" ] || printf '  %6.2f' "$(python3 -c "print($first_seconds / $seconds)")"
        else
            printf '  %12s' "not reached"
        fi
    fi
    echo
done
