# Runs the few tools that describe a Linux board, inside remote_files.sh and with its functions (tell) and variables
# (root, most, left, skip; IFS is a comma), for dfmobile/devices/board_files.py, which sets tools before it to `all` or
# `state` (nvpmodel and jetson_clocks only). Changes nothing on the board; of sudo only `sudo -n`, which asks nobody and
# fails where a password is needed. What a tool writes comes as a file /dfmobile-tools/NAME that ends in a line
# `exit CODE`; without it where it was too much. With a root, only tools below it are run.
if [ -n "$root" ]; then
  places=$root/usr/bin:$root/usr/sbin:$root/bin:$root/usr/src/tensorrt/bin
else
  places=$PATH:/usr/bin:/usr/sbin:/sbin:/usr/local/cuda/bin:/usr/src/tensorrt/bin
fi
limit=
! command -v timeout >/dev/null || limit=timeout,10
find_tool() {
  IFS=:
  for place in $places; do
    program=$place/$1
    if [ -f "$program" ] && [ -x "$program" ]; then
      IFS=,
      return 0
    fi
  done
  IFS=,
  program=
  return 1
}
tool() {
  name=$1
  shift
  case ",$skip," in
    *",/dfmobile-tools/$name,"*) return ;;
  esac
  tell f "/dfmobile-tools/$name"
  out=$({
    $limit "$@" 2>&1 </dev/null
    printf '\nexit %s\n' "$?"
  } | head -c 65536)
  code=$(printf '%s\n' "$out" | tail -n 1)
  code=${code#exit }
  tell x ''
  printf '%s\n' "$out" | od -A d -t x1 -v -N "$most"
  left=$((left - ${#out}))
}
absent() {
  tell f "/dfmobile-tools/$1"
  tell e 'no such program'
}
sudo=
! find_tool sudo || sudo=$program,-n
[ "$(id -u)" != 0 ] || [ -n "$root" ] || sudo=
# shellcheck disable=SC2086 # split at the comma
if find_tool nvpmodel; then
  tool nvpmodel "$program" -q
  if [ "$code" != 0 ] && [ -n "$sudo" ]; then tool nvpmodel-sudo $sudo "$program" -q; fi
else
  absent nvpmodel
fi
# shellcheck disable=SC2086 # split at the comma
if find_tool jetson_clocks; then tool jetson_clocks $sudo "$program" --show; else absent jetson_clocks; fi
if [ "$tools" != state ]; then
  if find_tool uname; then tool uname "$program" -m; else absent uname; fi
  if find_tool getconf; then tool getconf "$program" -a; else absent getconf; fi
  if find_tool nvidia-smi; then
    tool nvidia-smi "$program" --query-gpu=name,driver_version,compute_cap --format=csv,noheader
  else
    absent nvidia-smi
  fi
  packages=
  if find_tool dpkg-query; then
    # shellcheck disable=SC2016 # the program fills these in
    tool packages "$program" -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' 'libnvinfer[0-9]*' libnvinfer-bin \
      python3-libnvinfer nvidia-jetpack nvidia-l4t-core 'cuda-cudart-[0-9]*'
    packages=$out
  else
    absent packages
  fi
  if find_tool trtexec; then
    tell f /dfmobile-tools/trtexec-path
    if plain "${program#"$root"}"; then tell v "${program#"$root"}"; else tell e 'its name cannot be told'; fi
    # Its first line names the version; loading the library takes a second, so only where nothing else says it.
    case $packages in
      *libnvinfer[0-9]*) ;;
      *) tool trtexec "$program" --help ;;
    esac
  else
    absent trtexec-path
  fi
fi
