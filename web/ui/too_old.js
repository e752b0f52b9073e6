// For browsers without modules: everything else here is one.
document.getElementById("too-old").hidden = false;
