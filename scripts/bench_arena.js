// Battles on the simulator as a library, in this one process, with random players: the most that an arena could reach.
//
//     node scripts/bench_arena.js NODE_MODULES/pokemon-showdown < jobs > results
//
// A job is a line of JSON: {"format", "battles": [{"seed", "teams": [packed, packed]}, ...]}; so is its result.
"use strict";

const path = require("path");
const readline = require("readline");
const {Battle} = require(path.resolve(process.argv[2], "dist/sim"));

// The same draws, and the same choices of them, as bench_arena.py has: both play the same battles.
class Draws {
	constructor(seed) {
		this.state = seed >>> 0;
	}

	below(n) {
		this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
		return Math.floor(this.state / 2 ** 32 * n);
	}
}

function randomChoice(request, draws) {
	if (request.teamPreview) return "default";
	const members = request.side.pokemon;
	const reviving = members.some(member => member.reviving);
	const options = [];
	if (!request.forceSwitch) {
		request.active[0].moves.forEach((move, i) => {
			if (!move.disabled) options.push(`move ${i + 1}`);
		});
	}
	if (request.forceSwitch || !(request.active[0].trapped || request.active[0].maybeTrapped)) {
		members.forEach((member, i) => {
			if (!member.active && member.condition.endsWith(" fnt") === reviving) options.push(`switch ${i + 1}`);
		});
	}
	return options.length ? options[draws.below(options.length)] : "default";
}

function play(format, {seed, teams}, draws) {
	const battle = new Battle({formatid: format, seed, send: () => {}});
	teams.forEach((team, i) => battle.setPlayer(`p${i + 1}`, {name: `Player ${i + 1}`, team}));
	battle.sendUpdates();
	while (!battle.ended) {
		const asked = battle.sides.filter(side => side.activeRequest && !side.activeRequest.wait);
		for (const side of asked) battle.choose(side.id, randomChoice(side.activeRequest, draws[side.n]));
		battle.sendUpdates();
	}
	const {turn} = battle;
	battle.destroy();
	return turn;
}

function playAll({format, battles}) {
	const [began, usedBefore] = [process.hrtime.bigint(), process.cpuUsage()];
	const turns = battles.map((battle, i) => play(format, battle, [new Draws(2 * i), new Draws(2 * i + 1)]));
	const used = process.cpuUsage(usedBefore);
	const seconds = Number(process.hrtime.bigint() - began) / 1e9;
	return {seconds, turns: turns.reduce((a, b) => a + b), node_s: (used.user + used.system) / 1e6};
}

readline.createInterface({input: process.stdin}).on("line", line => {
	process.stdout.write(`${JSON.stringify(playAll(JSON.parse(line)))}\n`);
});
