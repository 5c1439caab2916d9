// How a battle stands for a side, about the chance to win, in 0..1: a logistic regression on a few numbers, with the
// weights of standing.json for each generation (scripts/fit_standing.py fits them to battles of DuelTrainer against
// itself; a generation without has those of gen 9).
'use strict';

const { fighter, outlook, weaponsOf, worth } = require('./duelling.js');
const weights = require('./standing.json');

const STATUSES = ['slp', 'frz', 'par'];
const OF_TEAM = ['alive', 'hp', 'worth', ...STATUSES];
const OF_ACTIVE = ['substitute', 'outlook'];
const SHARES = ['alive', 'hp', 'worth'];
// Of each the difference of the sides; of what a team has, also its share of what both have.
const NAMES = [...OF_TEAM, ...OF_ACTIVE.map(name => `active ${name}`), ...SHARES.map(name => `share of ${name}`)];
const N_TEAM = OF_TEAM.length, N_ACTIVE = OF_ACTIVE.length;

// Of fighters (see duelling.js; `idle` is set), with who is on the field.
function numbersOf(team, active, otherTeam, otherActive) {
	const numbers = new Float64Array(NAMES.length);
	addTeam(numbers, team, 1);
	addTeam(numbers, otherTeam, -1);
	const both = [0, 0, 0];
	for (const each of team) addShares(both, each);
	for (const each of otherTeam) addShares(both, each);
	for (let i = 0; i < SHARES.length; i++) numbers[N_TEAM + N_ACTIVE + i] = both[i] ? numbers[i] / both[i] : 0;
	addActive(numbers, active, otherActive, 1);
	addActive(numbers, otherActive, active, -1);
	return numbers;
}

// Of the simulator's side.
function numbersOfSide(own) {
	const [team, others] = [own, own.foe].map(side => side.pokemon.map(fighterOf));
	const [active, other] = [own, own.foe].map((side, i) => [team, others][i][side.pokemon.indexOf(side.active[0])]);
	return numbersOf(team, active, others, other);
}

function fighterOf(pokemon) {
	const { battle: { dex }, moves, volatiles } = pokemon, made = fighter(pokemon);
	return Object.assign(made, { weapons: weaponsOf(dex, moves), idle: made.idle + (volatiles.mustrecharge ? 1 : 0) });
}

function addShares(both, { hp, status }) {
	if (hp <= 0) return;
	both[0]++;
	both[1] += hp;
	both[2] += worth(status, hp);
}

function addTeam(numbers, team, sign) {
	for (const { hp, status } of team) {
		if (hp <= 0) continue;
		numbers[0] += sign;
		numbers[1] += sign * hp;
		numbers[2] += sign * worth(status, hp);
		const place = status ? STATUSES.indexOf(status) : -1;
		if (place >= 0) numbers[3 + place] += sign;
	}
}

function addActive(numbers, mine, theirs, sign) {
	if (mine.hp <= 0) return;
	if (mine.behindSubstitute) numbers[N_TEAM] += sign;
	if (theirs.hp > 0) numbers[N_TEAM + 1] += sign * outlook(mine, mine.weapons, theirs, theirs.weapons);
}

function standing(numbers, gen) {
	const known = weights[gen] || weights[9];
	let sum = 0;
	for (let i = 0; i < numbers.length; i++) sum += numbers[i] * known[i];
	return 1 / (1 + Math.exp(-sum));
}

module.exports = { NAMES, numbersOf, numbersOfSide, standing };
