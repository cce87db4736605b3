// The options as the vectors and the driver protocol call them, and as this library does.

const NAMES = { expires_in: 'expiresIn', align_to: 'alignTo', not_before: 'notBefore' };

/** Options of a vector as options of `mint`. Names that only this library has stay wrong, as they would elsewhere. */
export function toLibrary(options) {
  return Object.fromEntries(Object.entries(options).map(([name, value]) => {
    if (Object.values(NAMES).includes(name)) return [`${name}?`, value];
    return [NAMES[name] ?? name, value];
  }));
}

/** A MintError's parameter as a vector calls it. */
export function fromLibrary(parameter) {
  return Object.keys(NAMES).find((name) => NAMES[name] === parameter) ?? parameter;
}
