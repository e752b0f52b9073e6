/** Elements of the page. */

/**
 * Returns the element with an id.
 * @template {HTMLElement} T
 * @param {string} id @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
    const found = document.getElementById(id);
    if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
    return found;
}

/** @param {string} id */
export const input = (id) => byId(id, HTMLInputElement);
/** @param {string} id */
export const button = (id) => byId(id, HTMLButtonElement);
/** @param {string} id */
export const any = (id) => byId(id, HTMLElement);

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {string} [className] @param {string} [text]
 */
export function make(tag, className = "", text = "") {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
}

/** Shows text where it differs, so that screen readers and layout are left alone. @param {Element} element @param {string} text */
export function show(element, text) { if (element.textContent !== text) element.textContent = text; }

/** Says something to those who do not see the page. @param {string} sentence */
export function say(sentence) { any("said").textContent = sentence; }
