// Put into a page before its own scripts: writes down what the microphone gives to the page and what the page
// plays, and when each part of it had come. Read by tests/web/browser.py.
(() => {
    const now_s = () => (performance.timeOrigin + performance.now()) / 1000;
    const recordings = (window.recordings = {}), { connect } = AudioNode.prototype, seen = new WeakSet();
    async function record(what, node) {
        const { context } = node, recording = (recordings[what] = { rate: context.sampleRate, parts: [], ends: [] });
        const into = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
        connect.call(node, into);
        // What this page is too slow to read waits: nothing of a recording is lost.
        const [track] = into.stream.getAudioTracks(), { readable } = new MediaStreamTrackProcessor({ track, maxBufferSize: 60_000 });
        const reader = readable.getReader();
        for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
            const pcm = new Float32Array(value.numberOfFrames);
            value.copyTo(pcm, { planeIndex: 0, format: "f32-planar" });
            value.close();
            recording.parts.push(pcm);
            recording.ends.push(now_s());
        }
    }
    AudioNode.prototype.connect = function (to, ...rest) {
        if (!seen.has(this) && (to instanceof AudioDestinationNode || this instanceof MediaStreamAudioSourceNode)) {
            seen.add(this);
            record(to instanceof AudioDestinationNode ? "heard" : "spoken", this);
        }
        return connect.call(this, to, ...rest);
    };
    window.forgetRecordings = () => {
        for (const { parts, ends } of Object.values(recordings)) parts.length = ends.length = 0;
    };
    window.takeRecording = (what) => {
        const { rate, parts, ends } = recordings[what], pcm = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
        let at = 0;
        for (const part of parts) { pcm.set(part, at); at += part.length; }
        let text = "";
        const bytes = new Uint8Array(pcm.buffer);
        for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
        return { rate, pcm: btoa(text), sizes: parts.map((part) => part.length), ends };
    };
})();
