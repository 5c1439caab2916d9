// What the simulator itself makes of teams: a JSON list of texts on stdin, a JSON list of answers on stdout.
// node teams.js pack | validate FORMAT | generate FORMAT (of seeds), in the package's folder
'use strict';

const fs = require('fs');
const path = require('path');
const { Teams } = require(path.resolve('dist/sim/teams.js'));

const moves = set => set.moves.filter(move => Teams.packName(move)).length;
// A name with `|` or `]` in it packs into a line that no server reads as the same team.
const shape = team => JSON.stringify((team || []).map(set => [set.name || set.species, moves(set)]));

function pack(text) {
	try {
		const team = Teams.import(text) || [];
		const packed = Teams.pack(team);
		const idle = team.filter(set => !moves(set)).map(set => set.name || set.species);
		return { packed, pokemon: team.length, idle, survives: shape(Teams.unpack(packed)) === shape(team) };
	} catch (error) { // JSON that is a list of something else
		return { packed: '', pokemon: 0, idle: [], survives: false };
	}
}

function validateFor(format) {
	const { TeamValidator } = require(path.resolve('dist/sim/team-validator.js'));
	const validator = TeamValidator.get(format);
	return text => {
		const team = Teams.import(text);
		return team ? validator.validateTeam(team) || [] : ['This is not a team.'];
	};
}

const generateFor = format => seed => Teams.pack(Teams.getGenerator(format, seed).getTeam());

const [, , what, format] = process.argv;
const answer = what === 'pack' ? pack : (what === 'validate' ? validateFor : generateFor)(format);
process.stdout.write(JSON.stringify(JSON.parse(fs.readFileSync(0, 'utf8')).map(answer)));
