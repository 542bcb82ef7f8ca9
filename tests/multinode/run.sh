#!/usr/bin/env bash
# Several hosts on one machine train together, one of them is killed, the training is started again.
#
#   tests/multinode/run.sh FOLDER
#
# Every host is a network namespace with a name and an address of its own; a bridge connects them, and
# gloo and torchrun know nothing else of each other. While they train, the last host gets SIGKILL, all
# of its processes at once. The others have to end with a sentence within the time-out, and the
# same command has to go on from the last checkpoint to the end.
#
# FOLDER    to write to; the log of every host stays there
# HOSTS     how many (default: 2)
# DEATH     kill: the killed host's system still closes its connections (default)
#           silent: its cable is pulled first, so that the others hear nothing and have to time out
# NETWORK   namespaces (default), or loopback: hosts are 127.0.0.2, 127.0.0.3, ... (DEATH=kill only)
# TIMEOUT   seconds after which a silent host is taken for lost (default: 60)
#
# Needs root and iproute2 (for loopback: pgrep), and `python` and `torchrun` with uniphd in PATH. Where
# this system cannot do it, it says why and ends with 77.
set -euo pipefail

folder=$(mkdir -p "${1:?give a folder: $0 FOLDER}" && cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
hosts=${HOSTS:-2} death=${DEATH:-kill} network=${NETWORK:-namespaces} timeout=${TIMEOUT:-60}
last=$((hosts - 1))
name=uniphd$$ # of everything that is made outside the folder
run="$folder/outputs/tiny_refhuman/multinode"
steps=40

skip() { echo "SKIPPED: $*" >&2 && exit 77; }
fail() {
  echo "FAILED: $*" >&2
  tail -n 30 "$folder"/*.log >&2 || true
  exit 1
}

pids_of() { # every process of a host
  if [ "$network" = namespaces ]; then
    ip netns pids "$name-$1"
  else
    descendants "${agents[$1]}"
  fi
}

descendants() {
  local child
  echo "$1"
  for child in $(pgrep -P "$1" || true); do descendants "$child"; done
}

clean_up() {
  local host
  for host in $(seq 0 "$last"); do
    if [ -n "${agents[$host]:-}" ]; then pids_of "$host" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true; fi
    [ "$network" = loopback ] && continue
    ip netns delete "$name-$host" 2>/dev/null || true
    rm -rf "/etc/netns/$name-$host"
  done
  if [ "$network" = namespaces ]; then
    ip netns delete "$name-switch" 2>/dev/null || true
    rmdir /etc/netns 2>/dev/null || true
  fi
}

make_hosts() {
  local host
  [ "$(id -u)" = 0 ] || skip "network namespaces need root"
  command -v ip >/dev/null || skip "network namespaces need iproute2 (the command ip)"
  ip netns add "$name-switch" 2>"$folder/reason" || skip "no network namespaces: $(cat "$folder/reason")"
  ip -n "$name-switch" link add bridge type bridge 2>"$folder/reason" ||
    skip "no network bridges: $(cat "$folder/reason")"
  ip -n "$name-switch" link set bridge up
  for host in $(seq 0 "$last"); do
    ip netns add "$name-$host"
    ip -n "$name-$host" link set lo up
    ip -n "$name-$host" link add eth0 type veth peer name "port$host" netns "$name-switch"
    ip -n "$name-$host" address add "10.77.0.$((host + 1))/24" dev eth0
    ip -n "$name-$host" link set eth0 up
    ip -n "$name-switch" link set "port$host" master bridge up
    mkdir -p "/etc/netns/$name-$host"
    echo "127.0.0.1 localhost" >"/etc/netns/$name-$host/hosts"
    for other in $(seq 0 "$last"); do
      echo "10.77.0.$((other + 1)) host$other" >>"/etc/netns/$name-$host/hosts"
    done
  done
}

on_host() { # HOST COMMAND...
  local host=$1
  shift
  if [ "$network" = namespaces ]; then
    GLOO_SOCKET_IFNAME=eth0 exec ip netns exec "$name-$host" \
      unshare --uts sh -c 'hostname "$0" && exec "$@"' "host$host" "$@"
  else
    GLOO_SOCKET_IFNAME=lo exec "$@"
  fi
}

start() { # the training on every host; logs are NUMBER-HOST.log
  local host
  for host in $(seq 0 "$last"); do
    (
      cd "$folder"
      export RUN=multinode HEAD="$head" PORT=29517 NODES="$hosts" PER_NODE=1 OMP_NUM_THREADS=1
      on_host "$host" bash "$root/examples/torchrun.sh" "${training[@]}"
    ) >"$folder/$1-host$host.log" 2>&1 &
    agents[host]=$!
  done
}

finished() { # HOST SECONDS: waits, and gives the host's exit status
  local deadline=$((SECONDS + $2))
  while kill -0 "${agents[$1]}" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || fail "host $1 is still running after $2 s"
    sleep 0.5
  done
  wait "${agents[$1]}"
}

step_of_checkpoint() {
  python -c '
import sys, torch
print(torch.load(sys.argv[1], weights_only=True, map_location="cpu")["global_step"])' "$run/checkpoints/last.ckpt"
}

training=(
  experiment=tiny_refhuman data=synthetic prompt=all
  data.size=[96,96] data.eval_transform.size=96 data.eval_transform.max_size=96
  data.train_scenes=4 data.val_scenes=2 data.num_render_workers=1 data.batch_size=2 data.num_workers=0
  sizes.hidden_dim=32 sizes.num_queries=3 sizes.num_heads=4 sizes.feedforward_dim=32
  sizes.encoder_layers=1 sizes.decoder_layers=2
  text_encoder.config.hidden_size=32 text_encoder.config.intermediate_size=32
  optim.scheduler.warmup_steps=1 print_summary=false
  callbacks.progress_bar=null callbacks.contact_sheet=null callbacks.curves=null
  trainer.enable_progress_bar=false trainer.accelerator=cpu trainer.max_steps="$steps"
  trainer.val_check_interval=5 trainer.limit_val_batches=1 trainer.log_every_n_steps=1
  trainer.strategy.timeout.seconds="$timeout"
)
agents=()

[ "$hosts" -ge 2 ] || fail "HOSTS is $hosts; a training needs two hosts to lose one"
[ ! -e "$run" ] || fail "$run is there already; give an empty folder"
trap clean_up EXIT
if [ "$network" = namespaces ]; then
  make_hosts
  head=host0
else
  [ "$death" = kill ] || fail "with NETWORK=loopback there is no cable to pull; use DEATH=kill"
  head=127.0.0.2
fi

start 1
deadline=$((SECONDS + 600))
until [ -s "$run/checkpoints/last.ckpt" ]; do
  for host in $(seq 0 "$last"); do
    kill -0 "${agents[$host]}" 2>/dev/null || fail "host $host ended before the first checkpoint"
  done
  [ $SECONDS -lt $deadline ] || fail "no checkpoint after 600 s"
  sleep 0.2
done
sleep 1 # into the steps after the checkpoint
[ "$death" = kill ] || ip -n "$name-switch" link set "port$last" down
victims=$(pids_of "$last")
kill -KILL $victims
wait "${agents[$last]}" 2>/dev/null || true # or bash says at some later time that it was killed
killed=$SECONDS
echo "host $last: SIGKILL to $(echo "$victims" | wc -w) processes ($death)"
for host in $(seq 0 $((last - 1))); do
  if finished "$host" $((timeout + 60)); then fail "host $host did not notice"; fi
  grep -q "uniphd-train: Process [0-9]* of $hosts lost another process" "$folder/1-host$host.log" ||
    fail "host $host does not say that a process is lost"
  echo "host $host: ended after $((SECONDS - killed)) s: $(grep -m 1 "uniphd-train: " "$folder/1-host$host.log")"
done
step=$(step_of_checkpoint)
[ "$step" -lt "$steps" ] || fail "the training was over before the host was killed"
[ "$death" = kill ] || ip -n "$name-switch" link set "port$last" up

start 2
for host in $(seq 0 "$last"); do
  finished "$host" 600 || fail "host $host did not finish after the restart"
done
grep -q "Restored all states from the checkpoint" "$folder"/2-host*.log || fail "nothing was resumed"
[ "$(step_of_checkpoint)" = "$steps" ] || fail "the resumed training is not at step $steps"
[ "$(ls "$folder/outputs/tiny_refhuman")" = multinode ] || fail "there is more than one run folder"
[ "$(find "$folder/outputs" -name '*.log')" = "$run/train.log" ] || fail "there is more than one log"
echo "resumed at step $step, went on to step $steps, one run folder, one log"
