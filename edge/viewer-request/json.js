// JSON with one reading only: no member twice. src/gate/json.rs.
//
// The engine's own reader is fast and lax: it takes a member twice, numbers such as `01`, half of a surrogate pair, and at
// most 31 levels. So what stands outside the strings is looked at too, which takes long, and so comes behind the signature.

var STRINGS = /"[^"\\]*(?:\\.[^"\\]*)*"/g;
// Numbers that are not plain digits, and digits behind a zero.
var ODD_NUMBERS = /[-.]|\d[eE]|(?:^|\D)0\d/;
var PAIRS = /\\u[dD][89abAB]..\\u[dD][c-fC-F]../g;
var MAX_NESTED = 30;

// A text and what it says: an object, or null where it is nested too deep for this reader. Throws what malformedToken() throws.
function readObject(text) {
    if (text.split('[').length + text.split('{').length > MAX_NESTED) {
        return { json: text, object: null };
    }
    var object = null;
    try {
        object = JSON.parse(text);
    } catch (fault) {
        malformedToken();
    }
    return /^[ \t\n\r]*{/.test(text) ? { json: text, object: object } : malformedToken();
}

// Is that its only reading? False where only the gate can tell. Throws what malformedToken() throws.
function isPlainJson(read) {
    var bare = withoutStrings(read.json);
    var halves = read.json.indexOf('\\u') >= 0
        && /\\u[dD][89a-fA-F]/.test(read.json.replace(/\\\\/g, '').replace(PAIRS, ''));
    // As many names as there are members; outside strings a colon stands behind a name only. What has objects within is
    // written anew to count them.
    var members = bare.split('{').length === 2
        ? Object.keys(read.object).length
        : withoutStrings(JSON.stringify(read.object)).split(':').length - 1;
    if (members !== bare.split(':').length - 1) {
        malformedToken();
    }
    return !halves && !ODD_NUMBERS.test(bare);
}

// Without escapes every other piece between quotes is a string, which is found in a third of the time.
function withoutStrings(text) {
    if (text.indexOf('\\') >= 0) {
        return text.replace(STRINGS, '');
    }
    var pieces = text.split('"');
    var bare = '';
    for (var at = 0; at < pieces.length; at += 2) {
        bare += pieces[at];
    }
    return bare;
}
