// Upstream urls: which texts the gate takes. docs/link-format.md section 2; src/gate/target.rs.
//
// Hosts that only UTS 46 can judge (not ASCII, or punycode) are neither good nor bad here: UNSURE. The origin knows.

var GOOD = 'good';
var BAD = 'bad';
var UNSURE = 'unsure';
var NOT_IN_URLS = /[\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\\#]/;

// Most urls: https, a short name whose last label begins with a letter, ASCII. The lookahead is for a newline at the end.
var USUAL = /^https:\/\/(?:[a-z\d-]{1,63}\.){0,9}[a-z][a-z\d-]{0,62}(?:\/[!"$-[\]-~]*)?$(?!\n)/;

function judgeUrl(text) {
    if (text.length < 4096 && text.indexOf('xn--') < 0 && USUAL.test(text)) {
        return GOOD;
    }
    var parts = /^https?:\/\/([^/?]*)/i.exec(text);
    if (parts === null || bytes(text) > 4096 || NOT_IN_URLS.test(text) || /[@%]/.test(parts[1])) {
        return BAD;
    }
    var authority = /^(\[[^\]]*\]|[^:[\]]+)(?::(.*))?$/.exec(parts[1]);
    if (authority === null || (authority[2] !== undefined && !isPort(authority[2]))) {
        return BAD;
    }
    return judgeHost(authority[1]);
}

function isPort(text) {
    return /^[1-9][0-9]{0,4}$/.test(text) && Number(text) <= 65535;
}

function judgeHost(host) {
    if (host.startsWith('[')) {
        return host.length < 48 && readIpv6(host.substring(1, host.length - 1)) ? GOOD : BAD;
    }
    // The characters that the URL Standard forbids in a domain, as far as they can still be here.
    if (/[.\u3002]$/.test(host) || /[<>^|]/.test(host)) {
        return BAD;
    }
    if (/[^\x21-\x7e]/.test(host) || /(?:^|\.)xn--/i.test(host)) {
        return UNSURE;
    }
    // A name that ends in a number is an IPv4 address (URL Standard, "ends in a number"), and has one spelling here.
    return /(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$/i.test(host) && !IPV4.test(host) ? BAD : GOOD;
}
