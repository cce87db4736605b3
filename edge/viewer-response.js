// The viewer-response function of the distribution (CloudFront Functions, runtime cloudfront-js-2.0).
//
// What the cache holds was answered to somebody else's link. This gives it what belongs to this one: its file name, its
// end, its request id. It runs on hits and misses, and not where the origin answered 400 or more. Answers that no cache
// may keep come from the origin as they must be; those that may carry `x-sluicegate-filename`.

var NAME = 'x-sluicegate-filename';
// White_Space of Unicode, and dots: what no name begins or ends with. src/gate/filename/clean.rs.
var EDGES = /^[.\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+|[.\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/g;
// What Windows takes for a device, whatever extension follows.
var DEVICE = /^(?:CON|PRN|AUX|NUL|CLOCK\$|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9\xb9\xb2\xb3])[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*(?:[.:]|$)/i;

function handler(event) {
    var response = event.response;
    var headers = response.headers;
    if (!headers[NAME]) {
        return response;
    }
    var link = readLink(event.request.headers['x-sluicegate-link']);
    var name = (link.name && clean(link.name)) || decodeURIComponent(headers[NAME].value);
    var type = headers['content-type'] ? headers['content-type'].value : '';
    headers['content-disposition'] = { value: disposition(isShown(type) ? link.disposition : 'attachment', name) };
    headers['cache-control'] = { value: cacheControl(headers['cache-control'], link.exp) };
    headers.vary = { value: 'authorization, x-sluicegate-token' };
    var answered = headers['x-sluicegate-request'];
    if (!answered || answered.value !== event.context.requestId) {
        // Another request's budget and id.
        delete headers.ratelimit;
        delete headers['ratelimit-policy'];
        delete headers['x-sluicegate-limits'];
        headers['x-request-id'] = { value: event.context.requestId };
    }
    delete headers[NAME];
    delete headers['x-sluicegate-request'];
    return response;
}

// What viewer-request noted of the link: its end, its disposition, its file name. Without a note nothing is known.
function readLink(note) {
    var parts = note ? note.value.split(' ') : [];
    if (parts.length !== 3) {
        return { exp: 0, disposition: 'attachment', name: '' };
    }
    return { exp: Number(parts[0]), disposition: parts[1], name: decodeURIComponent(parts[2]) };
}

// Browsers keep it as long as the cache, and not past the link's own end.
function cacheControl(given, exp) {
    var age = /(?:^|[ ,])max-age=([0-9]+)/.exec(given ? given.value : '');
    var seconds = Math.min(age ? Number(age[1]) : 0, exp - Math.floor(Date.now() / 1000));
    return seconds > 0 ? 'private, max-age=' + seconds : 'private, no-store';
}

// `inline` is for what a browser shows without running it; markup and scripts are always saved. src/wire/answer.rs.
function isShown(type) {
    var essence = type.split(';')[0].trim().toLowerCase();
    return /^(?:image\/(?!svg(?:\+|$)).+|video\/.+|audio\/.+|text\/plain|application\/pdf)$/.test(essence);
}

// A signed name made safe: it can hold neither separators nor controls, but dots and blanks at its ends, or the name of a
// device.
function clean(name) {
    var trimmed = name.replace(EDGES, '');
    if (trimmed.charAt(0) === '~') {
        return cut('_' + trimmed.substring(1));
    }
    return cut(DEVICE.test(trimmed) ? '_' + trimmed : trimmed);
}

// At most 255 bytes, cut in front of the extension. src/gate/filename/clean.rs.
function cut(name) {
    if (bytes(name) <= 255) {
        return name;
    }
    var extension = extensionOf(name);
    var stem = name.substring(0, name.length - extension.length);
    while (bytes(stem) + bytes(extension) > 255) {
        stem = stem.substring(0, stem.length - 1);
    }
    return stem.replace(new RegExp(EDGES.source.split('|')[1]), '') + extension;
}

function extensionOf(name) {
    var found = /(?:\.tar)?\.[^.]*$/i.exec(name);
    return found && bytes(found[0]) <= 33 && !/\s/.test(found[0]) ? found[0] : '';
}

function bytes(text) {
    return Buffer.from(text).length;
}

// RFC 6266: plain ASCII in `filename`; anything else, and what browsers read in different ways, in `filename*` (RFC 8187)
// too. src/gate/filename/disposition.rs.
function disposition(kind, name) {
    var plain = name.replace(/[^ -~]|["\\%]/g, '_');
    if (plain === name) {
        return kind + '; filename="' + name + '"';
    }
    var exact = encodeURIComponent(name).replace(/['()*]/g, escapeOne).replace(/%(?:23|24|26|2B|5E|60|7C)/g, unescapeOne);
    return kind + '; filename="' + plain + '"; filename*=UTF-8\'\'' + exact;
}

function escapeOne(character) {
    return '%' + character.charCodeAt(0).toString(16).toUpperCase();
}

// `attr-char` of RFC 8187 that encodeURIComponent escapes.
function unescapeOne(escaped) {
    return decodeURIComponent(escaped);
}
