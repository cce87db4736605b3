# Signed links for a Sluicegate gateway, for POSIX shells: source this file, then call `sluicegate_mint`.
#
#   sluicegate_mint --url URL --kid ID [--secret-file FILE] [--base URL] [--expires-in SECONDS] [--exp UNIX]
#       [--align-to SECONDS] [--not-before UNIX] [--filename NAME] [--disposition KIND] [--id ID] [--ip ADDRESS]
#
# It prints the link. The secret is read from --secret-file, or from the variable SLUICEGATE_SECRET; it is never an
# argument of any process, which every user of the machine could see. A mistake is told on standard error, with status
# 2. It needs openssl and the POSIX commands awk, cat, date, od, tr and wc. The rules are those of docs/link-format.md,
# section 2.
#
# For tests, SLUICEGATE_NOW is the clock's time in Unix seconds, if it is digits and nothing else.
#
# Both functions run in a subshell, so that no variable, option or locale of the caller changes.

# Prints a link.
sluicegate_mint() (
    # First of all: a caller's `set -x` would print the secret.
    { \set +aeuvx -f; } 2>/dev/null
    _sg_start sluicegate_mint
    while [ $# -gt 0 ]; do
        case $1 in
        --*=*)
            _sg_value=${1#*=} _sg_option=${1%%=*}
            shift
            \set -- "$_sg_option" "$_sg_value" "$@"
            ;;
        esac
        case $1 in
        --url | --kid | --secret-file | --base | --expires-in | --exp | --align-to | --not-before | --filename | \
            --disposition | --id | --ip) ;;
        -*) _sg_fault option "$1" "there is no such option; write one of $_sg_options" ;;
        # It is not quoted, as it may be the secret.
        *) _sg_die "a value stands where an option is expected; write one such as --url before it" ;;
        esac
        [ $# -ge 2 ] || _sg_die "$1: its value is missing; write it behind"
        _sg_name=${1#--}
        case $_sg_name in *-*) _sg_name=${_sg_name%%-*}_${_sg_name#*-} ;; esac
        # The name is one of the list above, and the value is never read as code.
        eval "[ -z \"\${_sg_$_sg_name+set}\" ]" || _sg_fault "$1" "$2" "the option is given twice; leave out one"
        eval "_sg_$_sg_name=\$2"
        shift 2
    done
    _sg_read_values
    _sg_read_secret
    _sg_read_kid
    _sg_print_link
)

# Prints the HMAC-SHA256 of standard input in base64url, with the secret of --secret-file FILE or SLUICEGATE_SECRET.
sluicegate_sign() (
    { \set +aeuvx -f; } 2>/dev/null
    _sg_start sluicegate_sign
    case $#:${1-} in
    0:) ;;
    2:--secret-file) _sg_secret_file=$2 ;;
    *) _sg_die "write nothing behind it but --secret-file FILE" ;;
    esac
    _sg_read_secret
    _sg_tag
)

_sg_newline='
'
_sg_options='--url, --kid, --secret-file, --base, --expires-in, --exp, --align-to, --not-before, --filename, --disposition, '
_sg_options=$_sg_options'--id, --ip'

# _sg_start NAME: bytes instead of characters, the usual meaning of patterns, and no value but the given ones.
_sg_start() {
    # A function or an alias of the caller would run in place of a program, and be sent the secret. An alias is also put
    # in when this file is read, but not for a name with a backslash.
    \unset -f printf openssl od awk tr cat date wc command || exit 2
    \unalias -a 2>/dev/null
    LC_ALL=C IFS=" $_sg_newline" _sg_me=$1
    export LC_ALL
    [ -z "${BASH_VERSION-}" ] || \shopt -u nocasematch
    \unset _sg_url _sg_kid _sg_secret_file _sg_base _sg_expires_in _sg_exp _sg_align_to _sg_not_before _sg_filename \
        _sg_disposition _sg_id _sg_ip
    # Had the caller exported one of these, the secret would be in the environment of every process.
    \unset _sg_key _sg_hex _sg_escaped _sg_inner _sg_outer _sg_given
    [ -z "${SLUICEGATE_SECRET+set}" ] || _sg_given=$SLUICEGATE_SECRET
    \unset SLUICEGATE_SECRET
    # Else the secret would be an argument of a process.
    [ "$(\command -v printf)" = printf ] || _sg_die "this shell has no printf of its own; use dash, bash or busybox"
    \command -v openssl >/dev/null || _sg_die "there is no openssl; install it"
}

# _sg_die TEXT: what has the form of a secret is left out, wherever it was given.
_sg_die() {
    _sg_shown= _sg_rest=$1
    while :; do
        case $_sg_rest in *sgk1_*) ;; *) break ;; esac
        _sg_shown=$_sg_shown${_sg_rest%%sgk1_*}sgk1_...
        _sg_rest=${_sg_rest#*sgk1_}
        _sg_rest=${_sg_rest#"${_sg_rest%%[!A-Za-z0-9_-]*}"}
    done
    \printf '%s: %s\n' "$_sg_me" "$_sg_shown$_sg_rest" >&2
    exit 2
}

# _sg_hide OPTION VALUE: no error quotes a value that has the secret in it. Shorter texts are in others by chance.
_sg_hide() {
    [ -n "${_sg_given+set}" ] && [ ${#_sg_given} -ge 8 ] || return 0
    case $2 in
    *"$_sg_given"*) _sg_die "${1%%=*}: the secret stands where others would read it; write it into a file alone" ;;
    esac
}

# _sg_fault OPTION VALUE ADVICE: what could move a terminal's cursor is shown percent-encoded, what is long cut short.
_sg_fault() {
    _sg_hide "$1" "$2"
    _sg_look "$2"
    _sg_shown=$2
    case $_sg_flags in *utf8* | *control* | *direction*) _sg_shown=$_sg_encoded ;; esac
    [ "$_sg_size" -le 80 ] || _sg_shown=$(\printf '%.80s...' "$_sg_encoded")
    _sg_die "$1 \`$_sg_shown\`: $3"
}

# Reads bytes; prints their number, how many differ, and what is special about the text: `utf8` (it is none), `control`,
# `direction`, `space`; on a second line the bytes, percent-encoded.
_sg_scan() {
    \od -An -v -tx1 | \awk '
    BEGIN {
        for (i = 0; i < 256; i++) {
            hex = sprintf("%02x", i); value[hex] = i; written[hex] = "%" toupper(hex)
            if (i < 128 && sprintf("%c", i) ~ /[A-Za-z0-9._~-]/) written[hex] = sprintf("%c", i)
        }
    }
    function special(point) {
        if (point < 32 || point >= 127 && point < 160) flag["control"]
        if (point >= 9 && point <= 13 || point == 32 || point == 133 || point == 160 || point == 5760 ||
            point >= 8192 && point <= 8202 || point == 8232 || point == 8233 || point == 8239 || point == 8287 ||
            point == 12288) flag["space"]
        if (point == 1564 || point == 8206 || point == 8207 || point >= 8232 && point <= 8238 ||
            point >= 8294 && point <= 8297) flag["direction"]
    }
    # RFC 3629 section 4: how many bytes follow, and the least that they may stand for.
    function byte(b) {
        if (more) {
            if (b < 128 || b > 191) { flag["utf8"]; more = 0; return }
            point = point * 64 + b - 128
            if (--more == 0) {
                if (point < least || point > 1114111 || point >= 55296 && point <= 57343) flag["utf8"]
                else special(point)
            }
        } else if (b < 128) special(b)
        else if (b >= 194 && b < 224) { more = 1; least = 128; point = b - 192 }
        else if (b >= 224 && b < 240) { more = 2; least = 2048; point = b - 224 }
        else if (b >= 240 && b < 245) { more = 3; least = 65536; point = b - 240 }
        else flag["utf8"]
    }
    {
        for (i = 1; i <= NF; i++) {
            size++; byte(value[$i]); text = text written[$i]
            if (!($i in seen)) { seen[$i]; differ++ }
        }
    }
    END {
        if (more) flag["utf8"]
        line = size + 0 " " differ + 0 " "
        for (name in flag) line = line "," name
        print line; print text
    }'
}

# _sg_look VALUE: sets _sg_size, _sg_flags and _sg_encoded.
_sg_look() {
    _sg_encoded=$(\printf %s "$1" | _sg_scan)
    _sg_line=${_sg_encoded%%"$_sg_newline"*}
    _sg_encoded=${_sg_encoded#*"$_sg_newline"}
    _sg_size=${_sg_line%% *}
    _sg_flags=${_sg_line##* }
}

# _sg_read_text OPTION VALUE: refuses what no value may hold.
_sg_read_text() {
    _sg_look "$2"
    case $_sg_flags in
    *utf8*) _sg_fault "$1" "$2" "this is no UTF-8; write it as UTF-8" ;;
    *control*) _sg_fault "$1" "$2" "it holds a control character; leave that out" ;;
    esac
}

# _sg_read_number OPTION VALUE LEAST
_sg_read_number() {
    _sg_bad=
    case $2 in
    0 | [1-9]*) ;;
    *) _sg_bad=1 ;;
    esac
    case $2 in *[!0-9]*) _sg_bad=1 ;; esac
    case $_sg_bad$1:${#2} in
    --exp:13 | --not-before:13) _sg_fault "$1" "$2" "that looks like milliseconds; divide by 1000" ;;
    esac
    [ ${#2} -le 12 ] || _sg_bad=1
    [ -n "$_sg_bad" ] || [ "$2" -ge "$3" ] || _sg_bad=1
    [ -z "$_sg_bad" ] || _sg_fault "$1" "$2" "write whole seconds from $3 to 999999999999, digits only"
}

_sg_read_kid() {
    case $_sg_kid in
    sgk1_*) _sg_die "--kid: this looks like a secret; write the key's id, and the secret into a file" ;;
    "" | [!a-z0-9]* | *[!a-z0-9._-]*) _sg_bad=1 ;;
    *) _sg_bad= ;;
    esac
    [ -z "$_sg_bad" ] && [ ${#_sg_kid} -le 64 ] || _sg_fault --kid "$_sg_kid" \
        "write 1 to 64 characters of a-z, 0-9, \`.\`, \`_\` and \`-\`, beginning with a letter or digit"
}

_sg_read_filename() {
    _sg_read_text --filename "$_sg_filename"
    _sg_filename_encoded=$_sg_encoded
    [ "$_sg_size" -ge 1 ] && [ "$_sg_size" -le 255 ] ||
        _sg_fault --filename "$_sg_filename" "write 1 to 255 bytes of UTF-8"
    case $_sg_filename in
    */* | *\\* | . | ..) _sg_fault --filename "$_sg_filename" "this is a path; write a file name without folders" ;;
    esac
    case $_sg_flags in
    *direction*) _sg_fault --filename "$_sg_filename" \
        "it holds a character that turns the text direction; leave that out" ;;
    esac
}

_sg_read_id() {
    case $_sg_id in
    "" | *[!A-Za-z0-9._-]*) _sg_bad=1 ;;
    *) _sg_bad= ;;
    esac
    [ -z "$_sg_bad" ] && [ ${#_sg_id} -le 64 ] ||
        _sg_fault --id "$_sg_id" "write 1 to 64 characters of A-Z, a-z, 0-9, \`.\`, \`_\` and \`-\`"
}

# _sg_is_ipv4 TEXT: four decimal numbers without leading zeros; sets _sg_address to their 32 bits.
_sg_is_ipv4() {
    case $1 in
    *[!0-9.]* | .* | *. | *..* | *.*.*.*.*) return 1 ;;
    *.*.*.*) ;;
    *) return 1 ;;
    esac
    _sg_rest=$1. _sg_address=0
    while [ -n "$_sg_rest" ]; do
        _sg_part=${_sg_rest%%.*} _sg_rest=${_sg_rest#*.}
        case $_sg_part in 0?* | ????*) return 1 ;; esac
        [ "$_sg_part" -le 255 ] || return 1
        _sg_address=$((_sg_address * 256 + _sg_part))
    done
}

# What takes a reader of IPv6 to see is left to the gateway.
_sg_read_ip() {
    _sg_advice='write an IPv4 or IPv6 address, or a network such as `203.0.113.0/24` with zero host bits'
    _sg_address= _sg_prefix= _sg_bad=
    case $_sg_ip in
    */*)
        _sg_prefix=${_sg_ip#*/}
        case $_sg_prefix in 0?* | ????* | "" | *[!0-9]*) _sg_fault --ip "$_sg_ip" "$_sg_advice" ;; esac
        ;;
    esac
    case ${_sg_ip%%/*} in
    "" | *[!0-9A-Fa-f:.]*) _sg_bad=1 ;;
    *:*) [ "${_sg_prefix:-128}" -le 128 ] || _sg_bad=1 ;;
    *)
        _sg_is_ipv4 "${_sg_ip%%/*}" && [ "${_sg_prefix:-32}" -le 32 ] || _sg_fault --ip "$_sg_ip" "$_sg_advice"
        [ $((_sg_address & ((1 << (32 - ${_sg_prefix:-32})) - 1))) -eq 0 ] || _sg_bad=1
        ;;
    esac
    [ -z "$_sg_bad" ] || _sg_fault --ip "$_sg_ip" "$_sg_advice"
    _sg_look "$_sg_ip"
    _sg_ip_encoded=$_sg_encoded
}

# _sg_url_fault OPTION URL ADVICE: a user name may come with a password, and a query with another system's signature.
_sg_url_fault() {
    _sg_hide "$1" "$2"
    _sg_head=${2%%\?*}
    case $2 in *\?*) _sg_mark='?...' ;; *) _sg_mark= ;; esac
    _sg_rest=${_sg_head#*//}
    case ${_sg_rest%%/*} in *@*) _sg_head=${_sg_head%%//*}//...@${_sg_rest#*@} ;; esac
    _sg_fault "$1" "$_sg_head$_sg_mark" "$3"
}

# _sg_read_url OPTION URL: what takes the mapping of IDNA or a reader of IPv6 to see is left to the gateway.
_sg_read_url() {
    _sg_look "$2"
    case $_sg_flags in
    *utf8*) _sg_url_fault "$1" "$2" "this is no UTF-8; write it as UTF-8" ;;
    *space* | *control*)
        _sg_url_fault "$1" "$2" "it holds white space or a control character; write that percent-encoded"
        ;;
    esac
    [ "$_sg_size" -le 4096 ] || _sg_url_fault "$1" "$2" "it is longer than 4096 bytes; write a shorter one"
    case $2 in
    *\\*) _sg_url_fault "$1" "$2" "it holds a backslash; write \`/\`, or \`%5C\` in a path" ;;
    *\#*) _sg_url_fault "$1" "$2" "it has a fragment; leave out \`#\` and what follows" ;;
    [Hh][Tt][Tt][Pp]://* | [Hh][Tt][Tt][Pp][Ss]://*) ;;
    *) _sg_url_fault "$1" "$2" "write an absolute URL that begins with \`https://\`" ;;
    esac
    _sg_advice=
    _sg_authority=${2#*://}
    _sg_authority=${_sg_authority%%[/?]*}
    _sg_read_authority
    [ -z "$_sg_advice" ] || _sg_url_fault "$1" "$2" "$_sg_advice"
}

# Sets _sg_advice if _sg_authority is none.
_sg_read_authority() {
    _sg_port=80
    case $_sg_authority in
    *@*) _sg_advice="it has a user name or password; leave that out" && return ;;
    *%*) _sg_advice="write the host without percent-encoding" && return ;;
    \[*\]) _sg_host=${_sg_authority} ;;
    \[*\]:*) _sg_host=${_sg_authority%%\]*}] _sg_port=${_sg_authority#*\]:} ;;
    *:*) _sg_host=${_sg_authority%%:*} _sg_port=${_sg_authority#*:} ;;
    *) _sg_host=$_sg_authority ;;
    esac
    case $_sg_port in
    "" | 0* | *[!0-9]* | ??????*) _sg_port=65536 ;;
    esac
    [ "$_sg_port" -le 65535 ] ||
        _sg_advice="write a port from 1 to 65535 without leading zeros; IPv6 stands in brackets"
    case $_sg_host in
    "") _sg_advice="it names no host; write one" ;;
    \[*\])
        case ${_sg_host#?} in
        \] | *[!0-9A-Fa-f:.]*\] | *\]?*)
            _sg_advice="write an IPv6 address in the brackets, such as \`[2001:db8::1]\`"
            ;;
        esac
        ;;
    *.) _sg_advice="write the host without a dot at its end" ;;
    *[][\<\>^\|]*) _sg_advice="the host holds a character that no host name has; leave that out" ;;
    *)
        # WHATWG URL, section 3.5: where the last label is a number, the host is read as IPv4.
        case ${_sg_host##*.} in
        0[Xx]*[!0-9A-Fa-f]*) ;;
        0[Xx]*) _sg_advice=ipv4 ;;
        *[!0-9]*) ;;
        *) _sg_is_ipv4 "$_sg_host" || _sg_advice=ipv4 ;;
        esac
        [ "$_sg_advice" != ipv4 ] || _sg_advice="write an IPv4 host as four decimal numbers without leading zeros"
        ;;
    esac
}

_sg_read_values() {
    _sg_base=${_sg_base-http://127.0.0.1:8080}
    _sg_read_url --base "$_sg_base"
    _sg_base=${_sg_base%/}
    case ${_sg_base#*://} in
    */* | *\?*) _sg_url_fault --base "$_sg_base" "leave out what follows the host, since links begin with \`/?\`" ;;
    esac
    [ -n "${_sg_url+set}" ] || _sg_die "--url: it is missing; write the upstream file behind it"
    [ -n "${_sg_kid+set}" ] || _sg_die "--kid: it is missing; write the key's id behind it"
    _sg_read_url --url "$_sg_url"
    _sg_url_encoded=$_sg_encoded
    _sg_read_end
    [ -z "${_sg_not_before+set}" ] || _sg_read_number --not-before "$_sg_not_before" 0
    [ -z "${_sg_filename+set}" ] || _sg_read_filename
    [ -z "${_sg_id+set}" ] || _sg_read_id
    [ -z "${_sg_ip+set}" ] || _sg_read_ip
    case ${_sg_disposition-inline} in
    attachment | inline) ;;
    *) _sg_fault --disposition "$_sg_disposition" "write \`attachment\` or \`inline\`" ;;
    esac
}

# Sets _sg_end: ceil(end / align_to) * align_to.
_sg_read_end() {
    if [ -n "${_sg_exp+set}" ]; then
        [ -z "${_sg_expires_in+set}" ] ||
            _sg_fault --exp "$_sg_exp" "it cannot stand beside --expires-in; leave out one of the two"
        _sg_read_number --exp "$_sg_exp" 0
        _sg_end=$_sg_exp
    else
        _sg_read_number --expires-in "${_sg_expires_in-3600}" 1
        case ${SLUICEGATE_NOW-} in
        "" | 0?* | *[!0-9]* | ?????????????*) _sg_now=$(\date +%s) ;;
        *) _sg_now=$SLUICEGATE_NOW ;;
        esac
        _sg_end=$((_sg_now + ${_sg_expires_in-3600}))
        [ "$_sg_end" -le 999999999999 ] || _sg_fault --expires-in "$_sg_expires_in" \
            "the link would end after 999999999999; write fewer seconds"
    fi
    [ -n "${_sg_align_to+set}" ] || return 0
    _sg_read_number --align-to "$_sg_align_to" 1
    _sg_end=$(((_sg_end + _sg_align_to - 1) / _sg_align_to * _sg_align_to))
    [ "$_sg_end" -le 999999999999 ] || _sg_fault --align-to "$_sg_align_to" \
        "the link would end after 999999999999; write fewer seconds"
}

# Sets _sg_key to the secret's bytes as octal escapes. No message shows any of them.
_sg_read_secret() {
    if [ -n "${_sg_secret_file+set}" ]; then
        [ -f "$_sg_secret_file" ] && [ -r "$_sg_secret_file" ] ||
            _sg_fault --secret-file "$_sg_secret_file" "there is no such file that you may read; write another path"
        [ "$(\wc -c <"$_sg_secret_file")" -le 16384 ] ||
            _sg_fault --secret-file "$_sg_secret_file" "it has more than 16 KiB; write the path of a secret"
        _sg_hex=$(\od -An -v -tx1 <"$_sg_secret_file")
        # As for the gateway: one line break at the end is not part of the secret.
        _sg_hex=${_sg_hex% 0a}
        _sg_hex=${_sg_hex% 0d}
    else
        [ -n "${_sg_given+set}" ] ||
            _sg_die "secret: there is none; write --secret-file FILE, or set the variable SLUICEGATE_SECRET"
        _sg_hex=$(\printf %s "$_sg_given" | \od -An -v -tx1)
    fi
    _sg_escape 0 $_sg_hex
    _sg_key=$_sg_escaped
    _sg_line=$(\printf "$_sg_key" | _sg_scan)
    _sg_line=${_sg_line%%"$_sg_newline"*}
    _sg_differ=${_sg_line#* }
    case ${_sg_line##* } in
    *control*) _sg_die "secret: it holds a control character; store it as one line of text" ;;
    *utf8*) _sg_die "secret: it is no UTF-8; store it as one line of text" ;;
    esac
    _sg_advice="make one with \`sluicegate keys new\`"
    [ "${_sg_line%% *}" -ge 32 ] || _sg_die "secret: it is shorter than 32 bytes; $_sg_advice"
    [ "${_sg_differ%% *}" -ge 10 ] || _sg_die "secret: it repeats a few characters; $_sg_advice"
    _sg_given=$(\printf "$_sg_key")
}

# _sg_escape MASK HEX...: sets _sg_escaped to the bytes, each XOR the mask, as octal escapes for printf.
_sg_escape() {
    _sg_mask=$1 _sg_escaped=
    shift
    for _sg_byte; do
        _sg_byte=$((0x$_sg_byte ^ _sg_mask))
        _sg_escaped=$_sg_escaped\\$((_sg_byte / 64))$((_sg_byte / 8 % 8))$((_sg_byte % 8))
    done
}

# HMAC (RFC 2104 section 2) of standard input in base64url. openssl's own would want the key as an argument.
_sg_tag() {
    # A key longer than a block is hashed first.
    [ ${#_sg_key} -le 256 ] || _sg_hex=$(\printf "$_sg_key" | \openssl dgst -sha256 -binary | \od -An -v -tx1)
    \set -- $_sg_hex
    while [ $# -lt 64 ]; do \set -- "$@" 00; done
    _sg_escape 54 "$@"
    _sg_inner=$_sg_escaped
    _sg_escape 92 "$@"
    _sg_outer=$_sg_escaped
    _sg_sig=$({
        \printf "$_sg_outer"
        { \printf "$_sg_inner" && \cat; } | \openssl dgst -sha256 -binary
    } | \openssl dgst -sha256 -binary | \openssl base64 -A | \tr '+/' '-_' | \tr -d =)
    [ ${#_sg_sig} -eq 43 ] || _sg_die "openssl made no SHA-256; see its message above"
    \printf '%s\n' "$_sg_sig"
}

_sg_print_link() {
    _sg_text="sluicegate-link-v1$_sg_newline"
    for _sg_name in disposition exp filename id ip kid nbf url; do
        _sg_value_of "$_sg_name" && _sg_text=$_sg_text$_sg_name=$_sg_value$_sg_newline
    done
    _sg_sig=$(\printf %s "$_sg_text" | _sg_tag) || exit 2
    _sg_query=
    for _sg_name in url kid exp nbf filename disposition id ip sig; do
        _sg_value_of "$_sg_name" || continue
        # The other values hold nothing but unreserved characters (RFC 3986 section 2.3).
        case $_sg_name in url | filename | ip) eval "_sg_value=\$_sg_${_sg_name}_encoded" ;; esac
        _sg_query="$_sg_query&$_sg_name=$_sg_value"
    done
    _sg_query=${_sg_query#&}
    [ ${#_sg_query} -le 8192 ] ||
        _sg_url_fault --url "$_sg_url" "the link's query would be longer than 8192 bytes; write a shorter url"
    \printf '%s/?%s\n' "$_sg_base" "$_sg_query"
}

# _sg_value_of PARAMETER: sets _sg_value; fails if the link does not have it.
_sg_value_of() {
    case $1 in
    exp) _sg_value=$_sg_end ;;
    nbf) [ -n "${_sg_not_before+set}" ] && _sg_value=$_sg_not_before ;;
    *) eval "[ -n \"\${_sg_$1+set}\" ] && _sg_value=\$_sg_$1" ;;
    esac
}
