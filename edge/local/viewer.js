// What of the local CloudFront is not the cache: it makes the events of the two functions and does what they answer.
//
// `request` runs the viewer-request function and hands on to the cache, `respond` runs the viewer-response function on
// what the cache gives, and `lifetime` says, between cache and origin, how long an answer may be kept. The
// configuration that cloudfront.py writes calls them. The engine is njs 0.7.9.

import settings from 'settings.js';
import viewerRequest from 'viewer-request.js';
import viewerResponse from 'viewer-response.js';

// The names below are those of the developer guide's pages `Restrictions on all edge functions` and `CloudFront
// Functions event structure`.

// Functions neither see these nor may add them; one that does is answered 502.
var HIDDEN = [
    'connection', 'expect', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection', 'trailer',
    'upgrade', 'x-cache', 'x-forwarded-proto', 'x-real-ip'
];
var HIDDEN_PREFIXES = ['x-accel-', 'x-amz-cf-', 'x-amzn-', 'x-edge-', 'x-local-cloudfront-'];
// Functions see these and may not change them.
var FIXED_IN_REQUESTS = ['content-length', 'host', 'transfer-encoding', 'via'];
var FIXED_IN_RESPONSES = ['content-encoding', 'content-length', 'transfer-encoding', 'via', 'warning'];

// `Quotas`: the length of a URL, host and all.
var URL_BYTES = 8192;
var VIA = '1.1 local.cloudfront.net (CloudFront)';
var STORED = 'x-local-cloudfront-stored';
// Fields of requests from one part of the local CloudFront to the next.
var KEY = 'x-local-cloudfront-key';
var STATE = 'x-local-cloudfront-state';
var FOUND = 'x-local-cloudfront-found';

// Kept at least for their ErrorCachingMinTTL, which is 10 s where the distribution does not say; and kept if the origin
// says for how long (`How CloudFront caches HTTP 4xx and 5xx status codes`).
var ERRORS_KEPT = [404, 414, 500, 501, 502, 503, 504];
var ERRORS_KEPT_IF_SAID = [400, 403, 405, 412, 415];
var ERROR_SECONDS = 10;

// --- The request

async function request(r) {
    if (settings.methods.indexOf(r.method) < 0) {
        return refuse(r, 403, 'This distribution does not allow the method ' + r.method + '.');
    }
    // `GET requests that include a body`. The others have none to speak of here either.
    if (r.headersIn['Transfer-Encoding'] || Number(r.headersIn['Content-Length'] || 0) > 0) {
        return refuse(r, 403, 'A request with a body is not allowed.');
    }
    var target = r.variables.request_uri;
    if (('https://' + r.headersIn.Host + target).length > URL_BYTES) {
        return refuse(r, 413, 'The URL is longer than 8,192 bytes.');
    }
    if (/[^\x21-\x7e]/.test(target)) {
        return refuse(r, 400, 'The URL has bytes that are to be percent-encoded.');
    }

    var event = requestEvent(r, target);
    var before = JSON.stringify(event.request);
    var answer = event.request;
    if (viewerRequest) {
        try {
            answer = await viewerRequest.handler(event);
        } catch (error) {
            r.error('the viewer-request function threw: ' + error);
            return refuse(r, 503, 'The viewer-request function failed.');
        }
    }
    try {
        if (answer.statusCode) {
            return send(r, answer);
        }
        pass(r, event, JSON.parse(before), answer);
    } catch (error) {
        r.error('the viewer-request function returned what cannot be: ' + error);
        return refuse(r, 502, 'The viewer-request function returned what cannot be: ' + error.message + '.');
    }
}

// A refusal of CloudFront itself.
function refuse(r, status, sentence) {
    r.headersOut['Content-Type'] = 'text/plain';
    r.headersOut['X-Cache'] = 'Error from local cloudfront';
    r.return(status, sentence + '\n');
}

function requestEvent(r, target) {
    var at = target.indexOf('?');
    var query = at < 0 ? '' : target.substring(at + 1);
    var ip = r.variables.remote_addr;
    var headers = {};
    var cookies = {};
    r.rawHeadersIn.forEach(function (field) {
        var name = field[0].toLowerCase();
        if (name === settings.viewerHeader) {
            ip = field[1];
        } else if (name === 'cookie') {
            crumbs(field[1]).forEach(function (crumb) {
                add(cookies, crumb[0], crumb[1]);
            });
        } else if (!hidden(name)) {
            add(headers, name, field[1]);
        }
    });
    var request = {
        method: r.method,
        uri: at < 0 ? target : target.substring(0, at),
        querystring: {},
        headers: headers,
        cookies: cookies
    };
    pairs(query).forEach(function (pair) {
        add(request.querystring, pair.name, pair.value);
    });
    raw(request, query);
    return event('viewer-request', r.variables.request_id, ip, request);
}

function event(type, id, ip, request) {
    return {
        version: '1.0',
        context: {
            distributionDomainName: 'local.cloudfront.net',
            distributionId: 'ELOCAL',
            eventType: type,
            requestId: id
        },
        viewer: { ip: ip },
        request: request
    };
}

// A method, so JSON does not show it and a copy does not have it.
function raw(request, query) {
    Object.defineProperty(request, 'rawQueryString', {
        value: function () {
            return query;
        }
    });
}

function hidden(name) {
    return HIDDEN.indexOf(name) >= 0 || HIDDEN_PREFIXES.some(function (prefix) {
        return name.indexOf(prefix) === 0;
    });
}

// One more value of a name; the first stays in `value`, and all are in `multiValue`.
function add(fields, name, value) {
    var field = Object.prototype.hasOwnProperty.call(fields, name) ? fields[name] : null;
    if (!field) {
        // Not by assignment: `__proto__` is a name like any other.
        Object.defineProperty(fields, name, {
            value: { value: value }, configurable: true, enumerable: true, writable: true
        });
        return;
    }
    if (!field.multiValue) {
        field.multiValue = [{ value: field.value }];
    }
    field.multiValue.push({ value: value });
}

// The parameters of a query, still encoded, in their order.
function pairs(query) {
    return query.split('&').filter(function (part) {
        return part !== '';
    }).map(function (part) {
        var at = part.indexOf('=');
        return at < 0
            ? { name: part, value: '', text: part }
            : { name: part.substring(0, at), value: part.substring(at + 1), text: part };
    });
}

function crumbs(cookie) {
    return cookie.split(';').map(function (part) {
        var at = part.indexOf('=');
        return at < 0 ? [part.trim(), ''] : [part.substring(0, at).trim(), part.substring(at + 1).trim()];
    });
}

// A response that the viewer-request function made. It is not kept, and the viewer-response function does not see it.
function send(r, response) {
    var headers = response.headers || {};
    Object.keys(headers).forEach(function (name) {
        clean(name, headers[name]);
        if (hidden(name)) {
            throw new Error('no function may set `' + name + '`');
        }
        r.headersOut[name] = values(headers[name]);
    });
    r.headersOut['X-Cache'] = 'FunctionGeneratedResponse from local cloudfront';
    var body = response.body === undefined ? '' : response.body;
    if (typeof body === 'object') {
        body = body.encoding === 'base64' ? Buffer.from(body.data, 'base64') : body.data;
    }
    r.return(response.statusCode, body);
}

// --- On to the cache

function pass(r, event, before, request) {
    var query = queryOf(before, request, r.variables.request_uri);
    var target = request.uri === before.uri && query.same ? r.variables.request_uri : request.uri;
    if (target !== r.variables.request_uri && query.text !== '') {
        target = request.uri + '?' + query.text;
    }
    if (request.method !== before.method) {
        throw new Error('no function may change the method');
    }
    if (!/^\/[\x21-\x7e]*$/.test(target)) {
        throw new Error('`' + target + '` is no path with a query');
    }
    checkFields(before.headers, request.headers, FIXED_IN_REQUESTS);
    r.variables.cloudfront_target = target;
    r.variables.cloudfront_fields = fieldLines(r, event, before, request).concat([
        KEY + ': ' + key(request, query.text),
        STATE + ': ' + JSON.stringify({
            id: event.context.requestId,
            ip: event.viewer.ip,
            query: query.text,
            request: request
        })
    ]).join('\r\n');
    r.log('passed on to the cache');
    r.internalRedirect('@cache');
}

// What a function left alone goes on byte for byte; an object has lost the spelling that it was parsed from.
function queryOf(before, request, target) {
    var at = target.indexOf('?');
    var given = request.querystring;
    if (typeof given === 'string') {
        return { text: given, same: false };
    }
    if (JSON.stringify(given) === JSON.stringify(before.querystring)) {
        return { text: at < 0 ? '' : target.substring(at + 1), same: true };
    }
    var parts = [];
    Object.keys(given).forEach(function (name) {
        values(given[name]).forEach(function (value) {
            parts.push(name + '=' + value);
        });
    });
    return { text: parts.join('&'), same: false };
}

// Path, then what the cache policy names, and no method: GET and HEAD share an entry.
function key(request, query) {
    var parameters = pairs(query).filter(function (pair) {
        return settings.keyQueries === null || settings.keyQueries.indexOf(pair.name) >= 0;
    }).map(function (pair) {
        return pair.text;
    });
    var headers = settings.keyHeaders.map(function (name) {
        return request.headers[name] ? values(request.headers[name]) : null;
    });
    return JSON.stringify([request.uri, parameters, headers]);
}

// The fields of the request to the origin. nginx itself can set fields only of names that its configuration has, so
// they are lines in the value of one that it has, which the first of them completes: see cloudfront.py.
function fieldLines(r, event, before, request) {
    var lines = [];
    Object.keys(request.headers).forEach(function (name) {
        var given = values(request.headers[name]);
        if (name === 'authorization' && settings.signed) {
            // Origin access control signs with this field, and so overwrites the client's.
        } else if (['content-length', 'host', 'transfer-encoding', 'te', 'via', 'x-forwarded-for'].indexOf(name) < 0) {
            given.forEach(function (value) {
                lines.push(name + ': ' + value);
            });
        }
    });
    var cookies = JSON.stringify(request.cookies) === JSON.stringify(before.cookies)
        ? r.rawHeadersIn.filter(function (field) {
            return field[0].toLowerCase() === 'cookie';
        }).map(function (field) {
            return field[1];
        }).join('; ')
        : cookieOf(request.cookies);
    if (cookies) {
        lines.push('cookie: ' + cookies);
    }
    var forwarded = request.headers['x-forwarded-for'] ? values(request.headers['x-forwarded-for']) : [];
    lines.push('x-forwarded-for: ' + forwarded.concat([event.viewer.ip]).join(', '));
    lines.push('via: ' + (request.headers.via ? values(request.headers.via).concat([VIA]).join(', ') : VIA));
    return [event.context.requestId].concat(lines);
}

function cookieOf(cookies) {
    var parts = [];
    Object.keys(cookies).forEach(function (name) {
        clean('cookie', cookies[name]);
        values(cookies[name]).forEach(function (value) {
            parts.push(name + '=' + value);
        });
    });
    return parts.join('; ');
}

function values(field) {
    if (field.multiValue) {
        return field.multiValue.map(function (one) {
            return one.value;
        });
    }
    return [field.value];
}

// Fails on what a function must not do to fields (502 there: `the request fails CloudFront validation`).
function checkFields(before, after, fixed) {
    Object.keys(after).forEach(function (name) {
        clean(name, after[name]);
        if (hidden(name)) {
            throw new Error('no function may set `' + name + '`');
        }
    });
    fixed.forEach(function (name) {
        if (JSON.stringify(before[name]) !== JSON.stringify(after[name])) {
            throw new Error('no function may change `' + name + '`');
        }
    });
}

function clean(name, field) {
    if (!/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(name)) {
        throw new Error('`' + name + '` is no name of a field in lower case');
    }
    values(field).forEach(function (value) {
        if (typeof value !== 'string' || /[\r\n\0]/.test(value)) {
            throw new Error('the value of `' + name + '` is none');
        }
    });
}

// --- The response

// Sees what the cache gives, fresh or kept, before ranges are cut.
function respond(r) {
    var stored = Number(r.headersOut[STORED]);
    var cached = ['HIT', 'REVALIDATED'].indexOf(r.variables.upstream_cache_status) >= 0;
    delete r.headersOut[STORED];
    ['Age', 'X-Cache', 'X-Amz-Cf-Id'].forEach(function (name) {
        delete r.headersOut[name];
    });
    if (cached) {
        r.headersOut.Age = String(Math.max(0, Math.floor((Date.now() - stored) / 1000)));
        knowLength(r);
    }
    // `CloudFront doesn't invoke edge functions for viewer response events when the origin returns 400 or higher.`
    if (!viewerResponse || r.status >= 400) {
        return;
    }
    try {
        changeResponse(r);
    } catch (error) {
        r.error('the viewer-response function failed: ' + error);
        fail(r);
    }
}

// CloudFront knows how long a thing is that it keeps. nginx does not where the origin sent chunks, and then cuts no
// ranges.
function knowLength(r) {
    var length = r.headersOut['x-sluicegate-length'];
    if (r.status === 200 && r.headersOut['Content-Length'] === undefined && /^[0-9]+$/.test(length)) {
        r.headersOut['Content-Length'] = length;
    }
}

function changeResponse(r) {
    var state = JSON.parse(r.headersIn[STATE]);
    var headers = responseHeaders(r);
    var given = event('viewer-response', state.id, state.ip, state.request);
    raw(given.request, state.query);
    given.response = { statusCode: r.status, statusDescription: '', headers: headers, cookies: {} };
    var before = JSON.parse(JSON.stringify(headers));
    var after = viewerResponse.handler(given);
    if (typeof after.then === 'function') {
        throw new Error('it is async, which is not modelled');
    }
    if (after.body !== undefined || Object.keys(after.cookies || {}).length > 0) {
        throw new Error('it sets a body or cookies, which is not modelled');
    }
    checkFields(before, after.headers, FIXED_IN_RESPONSES);
    // The line with the status is the origin's by now, and njs 0.7.9 cannot take it back.
    if (after.statusCode !== r.status) {
        throw new Error('it sets another status, which is not modelled');
    }
    Object.keys(before).forEach(function (name) {
        if (!after.headers[name]) {
            delete r.headersOut[name];
        }
    });
    Object.keys(after.headers).forEach(function (name) {
        if (JSON.stringify(after.headers[name]) !== JSON.stringify(before[name])) {
            var all = values(after.headers[name]);
            r.headersOut[name] = all.length === 1 ? all[0] : all;
        }
    });
}

function responseHeaders(r) {
    var headers = {};
    ['Content-Type', 'Content-Length'].forEach(function (name) {
        if (r.headersOut[name] !== undefined) {
            add(headers, name.toLowerCase(), r.headersOut[name]);
        }
    });
    r.rawHeadersOut.forEach(function (field) {
        var name = field[0].toLowerCase();
        if (name !== 'set-cookie' && name !== 'content-type' && name !== 'content-length' && !hidden(name)) {
            add(headers, name, field[1]);
        }
    });
    return headers;
}

// A throw answers 503 there. nginx in front of the cache is told so; nothing of what the function was to look at is
// sent.
function fail(r) {
    Object.keys(responseHeaders(r)).concat(['set-cookie']).forEach(function (name) {
        delete r.headersOut[name];
    });
    r.headersOut['X-Accel-Redirect'] = '@failed';
}

// --- The origin's answer

// Says to the cache how long it may keep what the origin says, by the rules of the distribution.
function lifetime(r) {
    r.headersOut['X-Accel-Expires'] = String(seconds(r));
    r.headersOut[STORED] = String(Date.now());
}

function seconds(r) {
    // Of OPTIONS nothing is kept; of HEAD nothing either, since a GET would get it without its body.
    if (r.method !== 'GET' || r.status === 206) {
        return 0;
    }
    // To the cache's own question it says that what is kept is still good; to a client's, that the client has it.
    if (r.status === 304 && r.headersIn[FOUND] !== 'EXPIRED') {
        return 0;
    }
    if (r.status < 400) {
        return keep(said(r), settings.minTtl, settings.defaultTtl);
    }
    var configured = settings.errors[r.status];
    if (ERRORS_KEPT.indexOf(r.status) >= 0) {
        var least = configured === undefined ? ERROR_SECONDS : configured;
        return keep(said(r), least, least);
    }
    if (ERRORS_KEPT_IF_SAID.indexOf(r.status) >= 0 || configured > 0) {
        return keep(said(r), configured || 0, configured || 0);
    }
    return 0;
}

function keep(said, least, otherwise) {
    return said === null ? Math.max(least, otherwise) : Math.max(least, Math.min(said, settings.maxTtl));
}

// What the origin says, in seconds, or null. `s-maxage` counts before `max-age`, and either before `Expires`.
function said(r) {
    var control = r.headersOut['Cache-Control'];
    var directives = String(control === undefined ? '' : control).toLowerCase();
    if (/(^|[\s,])(private|no-store|no-cache)($|[\s,=])/.test(directives)) {
        return 0;
    }
    var age = /(?:^|[\s,])s-maxage="?([0-9]+)/.exec(directives) || /(?:^|[\s,])max-age="?([0-9]+)/.exec(directives);
    if (age) {
        return Number(age[1]);
    }
    if (r.headersOut.Expires !== undefined) {
        var ends = Date.parse(r.headersOut.Expires);
        return isNaN(ends) ? 0 : Math.max(0, Math.floor((ends - Date.now()) / 1000));
    }
    return null;
}

export default { request, respond, lifetime };
