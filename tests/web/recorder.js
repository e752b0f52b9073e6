// Put into a page before its own scripts: writes down what the microphone gives to the page and what the page
// plays, each with the time of its first sample. Read by tests/web/browser.py.
(() => {
    const now_s = () => (performance.timeOrigin + performance.now()) / 1000;
    const recordings = (window.recordings = {});
    function record(what, node) {
        const { context } = node, recorder = context.createScriptProcessor(4096, 1, 1);
        const parts = [], recording = (recordings[what] = { rate: context.sampleRate, parts, began_s: null });
        recorder.onaudioprocess = ({ inputBuffer, playbackTime }) => {
            parts.push(inputBuffer.getChannelData(0).slice());
            const first = playbackTime - (2 * inputBuffer.length) / context.sampleRate;
            const began = now_s() - (context.currentTime - first);
            // The least delayed of all callbacks tells best when the first sample was there.
            const start = began - ((parts.length - 1) * inputBuffer.length) / context.sampleRate;
            recording.began_s = Math.min(recording.began_s ?? Infinity, start);
        };
        connect.call(node, recorder);
        connect.call(recorder, context.destination);
    }
    const { connect } = AudioNode.prototype, seen = new WeakSet();
    AudioNode.prototype.connect = function (to, ...rest) {
        if (!seen.has(this) && (to instanceof AudioDestinationNode || this instanceof MediaStreamAudioSourceNode)) {
            seen.add(this);
            record(to instanceof AudioDestinationNode ? "heard" : "spoken", this);
        }
        return connect.call(this, to, ...rest);
    };
    window.forgetRecordings = () => {
        for (const recording of Object.values(recordings)) Object.assign(recording, { began_s: null }).parts.length = 0;
    };
    window.takeRecording = (what) => {
        const { rate, parts, began_s } = recordings[what], pcm = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
        let at = 0;
        for (const part of parts) { pcm.set(part, at); at += part.length; }
        let text = "";
        const bytes = new Uint8Array(pcm.buffer);
        for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
        return { rate, began_s, pcm: btoa(text) };
    };
})();
