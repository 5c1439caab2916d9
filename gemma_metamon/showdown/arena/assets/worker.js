// Many battles in one process, the simulator as a library: commands in JSON lines on stdin, what came of them in JSON
// lines on stdout. node worker.js PARENT, in the package's folder. Ends with its stdin, or when its parent is not that
// process any more (one that the parent forked may still hold the pipe open).
//
// A command is {do, battle, ...}; what it may hold stands at COMMANDS. An answer tells of one battle:
//   battle   its number, as its first command gave it
//   told     {p1: [...], p2: [...]}: the messages of each seat, as a player on a server gets them, without the room's line
//   ahead    of each world, how each choice stands at its end, in 0..1; `battle` is forgotten
//   ended    {winner, turns, inputs}: it is over and forgotten; winner is "p1", "p2" or null
//   refused  why a command was not done, in the simulator's words; what there was of its battle stays
//   failed   the simulator's exception; the battle is forgotten
//   done     how many commands this process has carried out
'use strict';

const fs = require('fs');
const { Room, Refusal } = require('./room.js');
const { fork } = require('./forking.js');
const { lookAhead } = require('./rollouts.js');

const POLL_MS = 500;
const WRITTEN_AT_ONCE = 1 << 14; // characters
const PIPE = 1; // stdout; nothing else may write to it
console.log = console.info = console.debug = console.error;

const rooms = new Map();
let done = 0;
let toldOf = 0; // the `done` of the last answer
let unsent = ''; // every write wakes whoever reads: there is one for as many answers as WRITTEN_AT_ONCE holds

function answer(news) {
	news.done = toldOf = done;
	unsent += `${JSON.stringify(news)}\n`;
	if (unsent.length >= WRITTEN_AT_ONCE) flush();
}

function flush() {
	const bytes = Buffer.from(unsent);
	unsent = '';
	for (let sent = 0; sent < bytes.length;) sent += fs.writeSync(PIPE, bytes, sent);
}

// Nothing of a battle stays that has ended.
function tell(battle, room) {
	const told = room.take();
	const news = { battle, told };
	if (room.ended) {
		news.ended = room.ended;
		forget(battle);
	}
	if (news.ended || told.p1.length || told.p2.length) answer(news);
}

function forget(battle) {
	rooms.get(battle)?.close();
	rooms.delete(battle);
}

const COMMANDS = {
	// format, seed, players [{name, team} or {name, seed}, ...]
	start({ battle, format, seed, players }) {
		rooms.set(battle, Room.start(format, seed, players));
	},
	// seat "p1", message "/choose move 1" | "/team 213456" | "/forfeit"
	send({ battle, seat, message }) {
		rooms.get(battle)?.receive(seat, message); // of a battle that has ended meanwhile, nobody waits for an answer
	},
	// inputs [...]: what `ended` gave, or the beginning of it; more can be sent afterwards
	replay({ battle, inputs }) {
		rooms.set(battle, Room.replay(inputs));
	},
	// source, seat, seed, hidden: `battle` is a copy of `source` at its present decision, as that seat may know it
	fork({ battle, source, seat, seed, hidden }) {
		const room = rooms.get(source);
		if (!room) throw new Refusal('a battle that is over cannot be forked');
		rooms.set(battle, fork(room, seat, seed, hidden));
	},
	// source, seat, worlds [{seed, hidden}, ...], choices ["move 1", ...], turns, times: nothing of it stays
	ahead({ battle, source, seat, ...question }) {
		const room = rooms.get(source);
		if (!room) throw new Refusal('a battle that is over cannot be looked ahead');
		answer({ battle, ahead: lookAhead(room, seat, question) });
		flush(); // that took its time, and whoever waits must not take it for silence
	},
	drop({ battle }) {
		forget(battle);
	},
};

function carryOut(line) {
	const command = JSON.parse(line);
	const { battle } = command;
	const began = rooms.has(battle);
	done++;
	try {
		COMMANDS[command.do](command);
		const room = rooms.get(battle);
		if (room) tell(battle, room);
	} catch (error) {
		if (began) forget(battle);
		answer({ battle, [began ? 'failed' : 'refused']: error.message });
		if (!error.refusal) console.error(error.stack);
	}
}

let rest = '';
process.stdin.setEncoding('utf8');
process.stdin.on('data', chunk => {
	const lines = (rest + chunk).split('\n');
	rest = lines.pop();
	for (const line of lines) carryOut(line);
	if (toldOf < done) answer({}); // the last commands had nothing to tell
	flush();
});
for (const end of ['end', 'error']) process.stdin.on(end, () => process.exit(0));
const parent = Number(process.argv[2]); // asked here, it may be gone already
setInterval(() => {
	if (process.ppid !== parent) process.exit(0);
}, POLL_MS).unref();
