// JSON with one reading only: no member twice, no unpaired surrogate, at most 64 levels. src/gate/json.rs.
//
// Text becomes a string, a list an array, an object an object whose names have a `$` in front; a number becomes
// { written }, since 1e3 is no time; `null`, `true` and `false` become null.

var MAX_DEPTH = 64;
// White space, then one token of RFC 8259. A `u` escape of a high surrogate must have its low one behind it.
var JSON_TOKEN = /[ \t\n\r]*(?:([{}[\],:])|("[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD](?:[0-7][0-9a-fA-F]{2}|[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))[^"\\\x00-\x1f]*)*")|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|true|false|null)/g;

// The members of a text that is one object and nothing else. Throws what malformed() throws. Without recursion, of which
// njs has little.
function readObject(text) {
    var at = 0;
    var mark;
    var outermost = [];
    var holder = outermost;
    var around = [];
    var isNew = false;

    // One token: a mark, or a value without parts.
    function next() {
        JSON_TOKEN.lastIndex = at;
        var token = JSON_TOKEN.exec(text);
        if (token === null || token.index !== at) {
            malformedToken();
        }
        at = JSON_TOKEN.lastIndex;
        mark = token[1];
        if (token[2] !== undefined) {
            return JSON.parse(token[2]);
        }
        return token[3] === undefined ? null : { written: token[3] };
    }

    function nameOf(token) {
        var name = `$${token}`;
        if (!isText(token) || name in holder || (next(), mark !== ':')) {
            malformedToken();
        }
        return name;
    }

    function isEnd() {
        return mark === (Array.isArray(holder) ? ']' : '}');
    }

    do {
        var value = next();
        if (isNew && isEnd()) {
            holder = around.pop();
        } else {
            var name = holder.length;
            if (!Array.isArray(holder)) {
                name = nameOf(value);
                value = next();
            }
            isNew = mark === '{' || mark === '[';
            if (isNew ? around.length === MAX_DEPTH : mark !== undefined) {
                malformedToken();
            }
            if (isNew) {
                value = mark === '{' ? {} : [];
                around.push(holder);
            }
            holder[name] = value;
            if (isNew) {
                holder = value;
                continue;
            }
        }
        isNew = false;
        while (holder !== outermost && (next(), isEnd())) {
            holder = around.pop();
        }
        if (holder !== outermost && mark !== ',') {
            malformedToken();
        }
    } while (holder !== outermost);
    return /^[ \t\n\r]*{/.test(text) && /^[ \t\n\r]*$/.test(text.substring(at)) ? outermost[0] : malformedToken();
}
