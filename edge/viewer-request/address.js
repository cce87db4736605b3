// Client addresses, as text of 32 or 128 bits. src/gate/id.rs, `ClientRange`.

var IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;
// ::ffff:0:0/96 (RFC 4291 section 2.5.5.2): a second spelling of IPv4 addresses.
var MAPPED = `${'0'.repeat(80)}${'1'.repeat(16)}`;

// The bits of an address; '' if it is none. The longest has 45 characters.
function readAddress(text) {
    return text.length > 45 ? '' : IPV4.test(text) ? bitsOf(text.split('.'), 10, 8) : readIpv6(text);
}

function bitsOf(units, base, size) {
    return units.map((unit) => (parseInt(unit, base) + (1 << size)).toString(2).substring(1)).join('');
}

// RFC 4291 section 2.2: `::` stands for one group or more; the last two may be written as IPv4.
function readIpv6(text) {
    var halves = text.split('::');
    var last = halves.length - 1;
    var bits = halves.map((half, at) => readGroups(half, at === last));
    var missing = 128 - bits.join('').length;
    var fits = last === 1 ? missing > 15 : last === 0 && missing === 0;
    return fits && bits.every(isText) ? bits.join('0'.repeat(missing)) : '';
}

// The bits of groups; null if something is none.
function readGroups(text, mayEndInIpv4) {
    var ending = /^(.*:|)([^:]*\..*)$/.exec(text);
    if (ending !== null) {
        var groups = readGroups(ending[1].replace(/:$/, ''), false);
        var good = mayEndInIpv4 && IPV4.test(ending[2]) && groups !== null && ending[1] !== ':';
        return good ? groups + bitsOf(ending[2].split('.'), 10, 8) : null;
    }
    var units = text === '' ? [] : text.split(':');
    return units.every((unit) => /^[\da-f]{1,4}$/i.test(unit)) ? bitsOf(units, 16, 16) : null;
}

// An address or a network whose host bits are zero; null for anything else.
function readRange(text) {
    var parts = /^([^/]*)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text);
    var bits = parts ? readAddress(parts[1]) : '';
    var length = parts && parts[2] ? Number(parts[2]) : bits.length;
    var good = bits && length <= bits.length && !/1/.test(bits.substring(length)) && !bits.startsWith(MAPPED);
    return good ? { size: bits.length, prefix: bits.substring(0, length) } : null;
}

function isWithin(range, text) {
    var bits = readAddress(text);
    if (bits.startsWith(MAPPED)) {
        bits = bits.substring(96);
    }
    return bits.length === range.size && bits.startsWith(range.prefix);
}
