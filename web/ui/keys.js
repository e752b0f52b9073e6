/** Keys and the microphone's button: mute, and push to talk. */

/** Whether a key belongs to what has the focus. @param {EventTarget | null} target */
const isTaken = (target) => target instanceof HTMLElement
    && (target.matches("input:not([type=checkbox]):not([type=radio]), select, textarea") || target.isContentEditable);

/**
 * Listens to keys and to the button.
 * @param {HTMLButtonElement} button
 * @param {{active: () => boolean, pushToTalk: () => boolean, toggle: () => void, hold: (talking: boolean) => void}} does
 *     `hold` is told when somebody begins and ends to hold the key or the button
 */
export function listenToKeys(button, does) {
    let held = false;
    const hold = (/** @type {boolean} */ talking) => {
        if (held === talking) return;
        held = talking;
        does.hold(talking);
    };
    document.addEventListener("keydown", (event) => {
        if (!does.active() || isTaken(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.key === "m" && !event.repeat) does.toggle();
        if (event.key !== " ") return;
        const elsewhere = event.target instanceof HTMLElement && event.target.matches("button, input, a") && event.target !== button;
        if (elsewhere || !does.pushToTalk()) return;
        event.preventDefault();
        if (!event.repeat) hold(true);
    });
    document.addEventListener("keyup", (event) => { if (event.key === " ") hold(false); });
    window.addEventListener("blur", () => hold(false));
    button.addEventListener("pointerdown", (event) => {
        if (!does.pushToTalk()) return;
        button.setPointerCapture(event.pointerId);
        hold(true);
    });
    for (const end of ["pointerup", "pointercancel"]) button.addEventListener(end, () => hold(false));
    button.addEventListener("click", () => { if (!does.pushToTalk()) does.toggle(); });
}
