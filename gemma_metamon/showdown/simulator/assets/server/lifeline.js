// Loaded before the server (node --require): says when the port is really open (the server itself says so too early,
// and survives a taken port), and ends the server together with whoever wants it running.
// GEMMA_METAMON_LIFELINE=stdin: when the parent's end of the pipe closes, which happens however the parent dies,
// or when the parent's id changes (a process that the parent forked may still hold the pipe open).
// GEMMA_METAMON_LIFELINE=<path>: when that file is gone.
'use strict';

const fs = require('fs');
const net = require('net');

const lifeline = process.env.GEMMA_METAMON_LIFELINE;
const POLL_MS = 500;

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
	this.once('listening', () => console.log(`gemma_metamon: port ${this.address().port} is open`));
	return listen.apply(this, args);
};

if (lifeline === 'stdin') {
	const parent = process.ppid;
	process.stdin.on('end', () => process.exit(0));
	process.stdin.on('error', () => process.exit(0));
	process.stdin.resume();
	setInterval(() => {
		if (process.ppid !== parent) process.exit(0);
	}, POLL_MS).unref();
} else if (lifeline) {
	setInterval(() => {
		if (!fs.existsSync(lifeline)) process.exit(0);
	}, POLL_MS).unref();
}
