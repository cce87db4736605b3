#!/bin/sh
# Downloads with curl, each shown, run and checked, against the gateway of `cargo run`. Exit status 1 if one fails.
#
#   sh examples/curl/recipes.sh [BASE]
#
# BASE is http://127.0.0.1:8080 if left out. It needs curl 7.76 or later, and openssl.
set -eu

base=${1:-http://127.0.0.1:8080}
# It becomes part of commands that are run as they are shown.
host=${base#http://} host=${host#https://}
case $base in http://?* | https://?*) ;; *) host= ;; esac
case $host in
"" | *[!A-Za-z0-9.:_\[\]-]*)
    echo "recipes: \`$base\` is no gateway; write http:// or https://, a host and perhaps a port, and nothing else" >&2
    exit 2
    ;;
esac
root=$(cd "$(dirname "$0")/../.." && pwd)
export SECRET_FILE="${SECRET_FILE:-$root/policy/demo.secret}"
. "$root/clients/shell/sluicegate.sh"

if [ ! -r "$SECRET_FILE" ]; then
    echo "recipes: there is no \`$SECRET_FILE\`; start the gateway first with \`cargo run\`" >&2
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
sample=$root/examples/sample

# recipe TITLE COMMAND: shows both, and runs the command as it is shown.
recipe() {
    title=$1
    printf '\n# %s\n%s\n' "$1" "$2"
    status=0
    eval "$2" || status=$?
    echo "$status" >status
}

failed() {
    printf '\nrecipes: FAILED: %s: %s\n' "$title" "$*" >&2
    exit 1
}

succeeds() {
    [ "$(cat status)" -eq 0 ] || failed "curl ended with status $(cat status)"
}

# has FILE TEXT...: each stands in the file.
has() {
    file=$1
    shift
    for text; do
        grep -qiF -e "$text" "$file" || failed "there is no \`$text\` in $file: $(head -c 500 "$file")"
    done
}

same() {
    cmp -s "$1" "$2" || failed "$1 is not the file"
}

recipe "Sign a link" \
    "link=\$(sluicegate_mint --base \"$base\" --kid demo --secret-file \"\$SECRET_FILE\" \\
    --url http://sample.localhost/notes.txt --filename 'Meine Notizen.txt')"
case $link in
"$base/?url="*"&sig="*) ;;
*) failed "this is no link: $link" ;;
esac
clip=$(sluicegate_mint --base "$base" --kid demo --secret-file "$SECRET_FILE" --url http://sample.localhost/clip.mp4)

recipe "Download it under its signed name" \
    'curl -sSf -OJ "$link"'
succeeds
# curl takes the plain name of Content-Disposition, and not its UTF-8 form.
same "Meine Notizen.txt" "$sample/notes.txt"

recipe "The same with the link in no process list: it is a credential as long as it is good" \
    "printf 'url = \"%s\"\\n' \"\$link\" | curl -sSf -o notes.txt -K -"
succeeds
same notes.txt "$sample/notes.txt"

head -c 10000 "$sample/clip.mp4" >clip.mp4
recipe "Go on where a download broke off, after 10000 bytes of it" \
    'curl -sSf -C - -o clip.mp4 -D headers "$clip"'
succeeds
has headers " 206" "content-range: bytes 10000-"
same clip.mp4 "$sample/clip.mp4"

recipe "Ask for type, length and name alone" \
    'curl -sSf -I "$clip" >headers'
succeeds
has headers "content-type: video/mp4" "content-length: $(wc -c <"$sample/clip.mp4" | tr -d ' ')" "etag:"

recipe "Fetch a part: the first 100 bytes" \
    'curl -sSf -r 0-99 -o first "$clip"'
succeeds
head -c 100 "$sample/clip.mp4" >expected
same first expected

recipe "Fetch it only if it has changed" \
    'curl -sSf --etag-save tag -o a "$link" &&
curl -sSf --etag-compare tag -o b -D headers "$link"'
succeeds
has headers " 304"
[ ! -s b ] || failed "the file came again although it is the same"

recipe "Wait as long as Retry-After says when the key has sent too much: 400 requests, 20 at once" \
    'curl -f --no-progress-meter --retry 20 -Z --parallel-max 20 -o "burst-#1" "$link&n=[1-400]" 2>burst.log'
succeeds
echo "(the gateway said to wait $(grep -c 'Will retry' burst.log || true) times)"
number=0
while [ $number -lt 400 ]; do
    number=$((number + 1))
    same burst-$number "$sample/notes.txt"
done

# The issuer that policy/demo.toml has in comments. Without it, no token is believed.
recipe "Send a token in a header, from a file that no process list shows" \
    'base64url() { openssl base64 -A | tr "+/" "-_" | tr -d =; }
head=$(printf %s '\''{"alg":"HS256","typ":"JWT","kid":"2027-01"}'\'' | base64url)
claims=$(printf '\''{"iss":"https://backend.example.com/","aud":"sluicegate-demo","exp":%s,"url":"%s"}'\'' \
    "$(($(date +%s) + 900))" http://sample.localhost/notes.txt | base64url)
sig=$(printf %s "$head.$claims" | SLUICEGATE_SECRET=${DEMO_TOKEN_SECRET-$(openssl rand -hex 32)} sluicegate_sign)
printf "x-sluicegate-token: %s\n" "$head.$claims.$sig" >token
curl -sS --retry 10 -H @token -o answer -w "%{http_code}\n" "'"$base"'/" >code'
succeeds
if [ -n "${DEMO_TOKEN_SECRET+set}" ]; then
    has code 200
    same answer "$sample/notes.txt"
else
    has code 403
    has answer '"code":"invalid_signature"'
    echo "(refused, as the demo trusts no issuer: take the first one in policy/demo.toml out of its comment, set"
    echo "DEMO_TOKEN_SECRET for the gateway and for this script)"
fi

recipe "Read why a link fails: the problem document says it, and its code is stable" \
    'curl -sS --retry 10 "$link&filename=other.txt" >problem
sed -n '\''s/.*"code":"\([a-z_]*\)".*/\1/p'\'' problem'
succeeds
has problem '"code":"malformed_link"' '"status":400' '"request_id":'

recipe "The same for a script: --fail-with-body keeps the document and ends with a status" \
    'curl -sS --fail-with-body -o problem "$(echo "$link" | sed "s/exp=1/exp=2/")"'
[ "$(cat status)" -eq 22 ] || failed "curl ended with status $(cat status)"
has problem '"code":"invalid_signature"'

printf '\nAll recipes did what they should.\n'
