# Reads many small kernel files of a device in one go, for dfmobile/devices/remote_files.py, which sends it as
# `sh -c SCRIPT sh ROOT FILE_BYTES TOTAL SKIP SPEC...` without these comments. Writes nothing on the device.
# POSIX sh, for Android's mksh with toybox (od, ls); a line for the host is a letter, a length, a text:
#   f path       what is looked at next; then one of the following
#   v text       it is a single line of plain characters
#   x            bytes in hexadecimal follow: od's lines with offsets, the last of which is the length
#   n name       a name in the folder (any number)
#   e reason     it cannot be read
#   s            the total is used up; the rest was not looked at
# A SPEC is KIND:GLOB:LEAF,LEAF with KIND r (bytes), s (probably a single line), l (names in a folder).
root=$1 most=$2 left=$3 skip=$4
shift 4
exec 2>/dev/null
LC_ALL=C
export LC_ALL
IFS=,
newline='
'
plain() {
  case $1 in
    '' | *[!A-Za-z0-9\ /._:,@+~%=-]*) return 1 ;;
  esac
}
tell() {
  echo "$1 ${#2} $2"
  left=$((left - ${#2}))
}
why() {
  reason=${out##*: }
  reason=${reason%%"$newline"*}
  plain "$reason" || reason='it cannot be read'
  tell e "$reason"
}
bytes() {
  if out=$(od -A d -t x1 -v -N "$most" "$1"); then
    tell x ''
    echo "$out"
    left=$((left - ${#out} / 3))
  else
    out=$(od -N 1 "$1" 2>&1 >/dev/null)
    why
  fi
}
line() {
  a='' b=''
  { IFS= read -r a && ! IFS= read -r b && [ -z "$b" ]; } <"$1" && plain "$a" && tell v "$a"
}
names() {
  count=0
  for entry in "$1"/*; do
    entry=${entry##*/}
    case $entry in
      '' | *[!A-Za-z0-9._:,@+~=-]*) continue ;;
    esac
    count=$((count + 1))
    [ $count -gt 2000 ] || tell n "$entry"
  done
  [ $count -eq 0 ] || return 0
  if out=$(ls "$1" 2>&1 >/dev/null); then
    tell e 'the folder is empty'
  else
    why
  fi
}
echo 'dfmobile-files 1'
for spec; do
  kind=${spec%%:*} spec=${spec#*:}
  for base in $root${spec%:*}; do
    case $base in
      *\**) continue ;;
    esac
    for leaf in ${spec##*:}; do
      file=${base%/}/$leaf
      [ "$leaf" != . ] || file=${base%/}
      path=${file#"$root"}
      case ",$path," in
        *[!A-Za-z0-9/._:,@+~=-]*) continue ;;
      esac
      case ",$skip," in
        *",$path,"*) continue ;;
      esac
      if [ "$left" -le 0 ]; then
        tell s ''
        exit 0
      fi
      tell f "$path"
      case $kind in
        l) names "$file" ;;
        s) line "$file" || bytes "$file" ;;
        *) bytes "$file" ;;
      esac
    done
  done
done
echo end
