// JSON with one reading only: no member twice. src/gate/json.rs.
//
// The engine's own reader is fast and lax: it takes a member twice, numbers such as `01`, half of a surrogate pair, and at
// most 31 levels. So what stands outside the strings is looked at too. What only the gate can tell is ODD.

var ODD = { odd: true };
var STRINGS = /"[^"\\]*(?:\\.[^"\\]*)*"/g;
// Numbers that are not plain digits, and digits behind a zero.
var ODD_NUMBERS = /[-.]|\d[eE]|(?:^|\D)0\d/;
var PAIRS = /\\u[dD][89abAB]..\\u[dD][c-fC-F]../g;
var MAX_NESTED = 30;

// The members of a text that is one object, ODD, or what malformedToken() throws. It is read before it is looked at, so that
// no pattern searches an unclosed string.
function readObject(text) {
    if (text.split('[').length + text.split('{').length > MAX_NESTED) {
        return ODD;
    }
    var object = null;
    try {
        object = JSON.parse(text);
    } catch (fault) {
        malformedToken();
    }
    var bare = withoutStrings(text);
    var halves = text.indexOf('\\u') >= 0 && /\\u[dD][89a-fA-F]/.test(text.replace(PAIRS, ''));
    if (halves || ODD_NUMBERS.test(bare)) {
        return ODD;
    }
    // As many names as there are members; outside strings a colon stands behind a name only. What has objects within is
    // written anew to count them.
    var members = bare.split('{').length === 2
        ? Object.keys(object).length
        : withoutStrings(JSON.stringify(object)).split(':').length - 1;
    return bare.trim()[0] === '{' && members === bare.split(':').length - 1 ? object : malformedToken();
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
