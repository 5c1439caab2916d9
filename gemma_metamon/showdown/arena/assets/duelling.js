// Chooses in a battle of the simulator as DuelTrainer does (showdown/scripted), for battles that nobody but the worker
// plays: the same formulas, numbers and names. scripted/ has the reasons; tests hold both to the same choices.
'use strict';

const HORIZON = 30;
const MEAN_ROLL = 0.925;
const ALIVE = 0.35, LEAST_HP = 0.02;
// maps, for most have none: a look-up that finds nothing in an object is slow
const STATUS_WORTH = new Map(Object.entries({ slp: 0.6, frz: 0.15, par: 0.8, brn: 0.85, psn: 0.9, tox: 0.8 }));
const CHIP = new Map(Object.entries({ brn: 1 / 16, psn: 1 / 16, tox: 3 / 16 }));
const STATUS_IMMUNE = { brn: ['Fire'], par: ['Electric'], psn: ['Poison', 'Steel'], tox: ['Poison', 'Steel'] };
const STATUS_RATING = { slp: 0.8, par: 0.45 }, OTHER_STATUS_RATING = 0.2, STATUS_ABOVE = 0.4;
const HEALING_RATING = 0.9, HEAL_BELOW = 0.5, REST_BELOW = 0.35, REST_UNDER = 0.3;
const EXPLODE_BELOW = 0.6, EXPLODE_FOR = 0.4;
const SWITCH = 10, SWITCH_MARGIN = 1, TERA_MARGIN = 0.3;
const UNKNOWN_POWER = 60, ALWAYS = 5;
const STAB = [1, 1.5, 2];
let nAttacks = 0; // numbered as they come
const STATS = ['atk', 'def', 'spa', 'spd', 'spe'];
const SPECIAL_TYPES = new Set(['Fire', 'Water', 'Grass', 'Electric', 'Ice', 'Psychic', 'Dragon', 'Dark']);
const RETALIATION = new Set(['bide', 'counter', 'mirrorcoat', 'metalburst', 'comeuppance']);
const WATER = ['Water'];
const HALF = new Set(['superfang', 'ruination', 'naturesmadness']);
const BREAKS_SCREENS = new Set(['brickbreak', 'psychicfangs', 'ragingbull']);
const ABILITY_IMMUNITY = {
	levitate: 'Ground', eartheater: 'Ground', flashfire: 'Fire', wellbakedbody: 'Fire', voltabsorb: 'Electric',
	lightningrod: 'Electric', motordrive: 'Electric', waterabsorb: 'Water', stormdrain: 'Water', dryskin: 'Water',
	sapsipper: 'Grass',
};
const CRITICAL_CHANCES = [
	[7, [1 / 24, 1 / 8, 1 / 2, 1]], [6, [1 / 16, 1 / 8, 1 / 2, 1]], [3, [1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 1]],
	[2, [17 / 256, 32 / 256, 64 / 256, 85 / 256, 128 / 256]],
];

const kept = new WeakMap(); // of each dex: by name, what follows from it alone
function keep(dex, key, make) {
	let known = kept.get(dex);
	if (!known) kept.set(dex, known = new Map());
	if (!known.has(key)) known.set(key, make());
	return known.get(key);
}

const attackOf = (dex, id) => keep(dex, id, () => makeAttack(dex, id));
function makeAttack(dex, id) {
	const move = dex.moves.get(id);
	if (!move.exists || move.category === 'Status' || RETALIATION.has(move.id) || move.ohko) return null;
	const physical = move.category === 'Physical';
	const power = move.id === 'return' ? 102 : move.basePower;
	return {
		type: move.id === 'struggle' && dex.gen > 1 ? '???' : move.type, physical,
		power: power > 1 ? power : UNKNOWN_POWER, hits: meanHits(move), accuracy: move.accuracy === true ? 1 : move.accuracy / 100,
		critical: move.willCrit === undefined ? Math.max(0, move.critRatio - 1) : move.willCrit ? ALWAYS : -1,
		levelShare: move.damage === 'level' ? 1 : move.id === 'psywave' ? 0.75 : 0,
		fixed: typeof move.damage === 'number' ? move.damage : 0, half: HALF.has(move.id),
		selfDestruct: Boolean(move.selfdestruct), slow: Boolean(move.flags.charge || move.flags.recharge),
		charges: Boolean(move.flags.charge), ignoresTypes: move.ignoreImmunity === true && power <= 1,
		doubled: move.id === 'freezedry' ? WATER[0] : null, ofTarget: move.overrideOffensivePokemon === 'target',
		attackStat: move.overrideOffensiveStat || (physical ? 'atk' : 'spa'),
		defenseStat: move.overrideDefensiveStat || (physical ? 'def' : 'spd'),
		ignoresStages: Boolean(move.ignoreDefensive), ignoresScreens: BREAKS_SCREENS.has(move.id),
		needsSleep: move.id === 'dreameater', varies: HALF.has(move.id) || move.id === 'dreameater', number: nAttacks++,
	};
}

function meanHits({ id, multihit }) {
	if (id === 'triplekick' || id === 'tripleaxel') return 1 + 2 * 0.9 + 3 * 0.81;
	if (Array.isArray(multihit)) return multihit[0] === multihit[1] ? multihit[0] : 5 / 3 + 9 / 6;
	return multihit || 1;
}

// The attacks of these moves that can be repeated, each with the share of turns in which it is dealt.
const weaponsOf = (dex, ids) => ids.map(id => attackOf(dex, id)).filter(attack => attack && !attack.selfDestruct);

function assumedWeapons(dex, fighter) {
	const physical = fighter.stats.atk >= fighter.stats.spa;
	const make = (type, isPhysical, power) => keep(dex, `assumed ${type} ${isPhysical} ${power}`, () => ({
		type, physical: isPhysical, power, hits: 1, accuracy: 1, critical: 0, levelShare: 0, fixed: 0,
		attackStat: isPhysical ? 'atk' : 'spa', defenseStat: isPhysical ? 'def' : 'spd', number: nAttacks++,
	}));
	const weapons = fighter.types.map(type => make(type, dex.gen >= 4 ? physical : !SPECIAL_TYPES.has(type), 90));
	return [...weapons, make('???', physical, 65)];
}

const factors = new WeakMap(); // of lists of types
function effectiveness(dex, type, types) {
	let known = factors.get(types);
	if (!known) factors.set(types, known = keep(dex, `against ${types}`, () => new Map()));
	let factor = known.get(type);
	if (factor === undefined) known.set(type, factor = effectivenessOf(dex, type, types));
	return factor;
}

function effectivenessOf(dex, type, types) {
	if (type === '???' || type === 'Stellar') return 1;
	return types.reduce((product, each) => product * (dex.getImmunity(type, each) ? 2 ** dex.getEffectiveness(type, each) : 0), 1);
}

// A Pokémon as its own side knows it, or `seen` from the other: then with the stats that are usual for its species.
function fighter(pokemon, { seen = false, entering = false } = {}) {
	const { battle, status } = pokemon, { gen } = battle;
	const types = pokemon.getTypes(), boosts = entering ? {} : pokemon.boosts;
	const usual = seen && keep(battle.dex, `usual ${pokemon.species.id} ${pokemon.level}`, () => usualStats(pokemon));
	const stats = seen ? usual.stats : pokemon.storedStats;
	const screens = [];
	for (const there of [pokemon.volatiles, pokemon.side.sideConditions]) {
		if (there.reflect || there.auroraveil) screens.push('reflect');
		if (there.lightscreen || there.auroraveil) screens.push('lightscreen');
	}
	let idle = status === 'slp' ? (gen === 1 ? 2.4 : gen <= 4 ? 1.8 : 1.2) : status === 'frz' ? (gen === 1 ? HORIZON : 4) : 0;
	if (seen && pokemon.volatiles.mustrecharge) idle = Math.max(idle, 1);
	const slowed = status === 'par' ? (gen < 7 ? 0.25 : 0.5) : 1;
	return {
		dex: battle.dex, gen, level: pokemon.level, types, stats, boosts, status, screens, idle,
		stabTypes: pokemon.terastallized ? [...pokemon.baseSpecies.types, ...types] : pokemon.species.types,
		maxhp: seen ? usual.hp : pokemon.maxhp, hp: pokemon.hp / pokemon.maxhp, baseSpeed: pokemon.species.baseStats.spe,
		ability: gen >= 3 ? pokemon.ability : '', speed: stats.spe * stage(boosts.spe || 0) * slowed,
		behindSubstitute: Boolean(pokemon.volatiles.substitute),
	};
}

function usualStats({ species, level, battle: { gen } }) {
	const trained = name => (2 * species.baseStats[name] + (gen <= 2 ? 93 : 52)) * level / 100;
	return { hp: trained('hp') + level + 10, stats: Object.fromEntries(STATS.map(name => [name, trained(name) + 5])) };
}

const stage = n => n >= 0 ? (2 + n) / 2 : 2 / (2 - n);

function worth(status, hp) {
	return hp <= 0 ? 0 : (ALIVE + (1 - ALIVE) * hp) * (status && STATUS_WORTH.get(status) || 1);
}

function factorOf(attack, defender) {
	if (attack.needsSleep && defender.status !== 'slp') return 0;
	if (defender.ability && ABILITY_IMMUNITY[defender.ability] === attack.type) return 0;
	if (attack.ignoresTypes) return 1;
	const factor = effectiveness(defender.dex, attack.type, defender.types);
	return attack.doubled && defender.types.includes(attack.doubled) ? factor * 2 / effectiveness(defender.dex, attack.type, WATER) : factor;
}

function criticalChance(attack, attacker) {
	if (attack.critical < 0) return 0;
	if (attacker.gen === 1) return Math.min(attacker.baseSpeed / 512 * (attack.critical ? 8 : 1), 255 / 256);
	const [, chances] = CRITICAL_CHANCES.find(([first]) => attacker.gen >= first);
	return chances[Math.min(attack.critical, chances.length - 1)];
}

// What a hit takes on average: HP plainly and as a critical one, how often it is one, and the mean share of the
// defender's maximum. Fighters with a `number` and a list `known` in common are asked for the same again and again: what
// follows from who they are (`plain`: no boost, no burn, no screen) is looked up there.
function strike(attack, attacker, defender) {
	const { known } = attacker;
	const at = known && attacker.plain && defender.plain && !attack.varies ? (attack.number * 12 + attacker.number) * 12 + defender.number : -1;
	if (at >= 0 && known[at]) return known[at];
	const factor = factorOf(attack, defender), chance = criticalChance(attack, attacker);
	const [normal, critical] = [false, true].map(isCritical => factor && damage(attack, attacker, defender, factor, isCritical));
	const found = { factor, chance, normal, critical, share: ((1 - chance) * normal + chance * critical) / defender.maxhp };
	if (at >= 0) known[at] = found;
	return found;
}

const hitShare = (attack, attacker, defender) => strike(attack, attacker, defender).share;

function damage(attack, attacker, defender, factor, critical) {
	if (attack.half) return 0.5 * defender.hp * defender.maxhp;
	if (attack.levelShare || attack.fixed) return attack.levelShare * attacker.level + attack.fixed;
	const { gen } = attacker;
	const [strength, defense] = statsThatCount(attack, attacker, defender, critical);
	const level = critical && gen === 1 ? 2 * attacker.level : attacker.level;
	let hp = Math.floor(Math.floor((Math.floor(2 * level / 5) + 2) * attack.power * strength / defense) / 50);
	if (gen <= 2) {
		hp = Math.min(critical && gen === 2 ? 2 * hp : hp, 997) + 2;
	} else {
		hp += 2;
		if (critical) hp *= gen <= 5 ? 2 : 1.5;
		else if (isScreened(attack, defender)) hp /= 2;
		if (attack.physical && attacker.status === 'brn') hp /= 2;
	}
	const stab = STAB[Math.min(attacker.stabTypes.filter(type => type === attack.type).length, 2)];
	return attack.hits * hp * factor * stab * MEAN_ROLL;
}

function statsThatCount(attack, attacker, defender, critical) {
	const source = attack.ofTarget ? defender : attacker, { gen } = attacker;
	let up = source.boosts[attack.attackStat] || 0;
	let down = attack.ignoresStages ? 0 : defender.boosts[attack.defenseStat] || 0;
	if (gen >= 3 && critical) [up, down] = [Math.max(up, 0), Math.min(down, 0)];
	const plain = critical && gen <= 2 && (gen === 1 || up <= down);
	if (plain) up = down = 0;
	let strength = Math.floor(source.stats[attack.attackStat] * stage(up));
	let defense = Math.floor(defender.stats[attack.defenseStat] * stage(down));
	if (gen <= 2) {
		[strength, defense] = [Math.min(strength, 999), Math.min(defense, 999)];
		if (!plain) {
			if (attack.physical && attacker.status === 'brn') strength = Math.floor(strength / 2);
			if (isScreened(attack, defender)) defense *= 2;
		}
		if (Math.max(strength, defense) > 255) [strength, defense] = [strength, defense].map(stat => Math.floor(stat / 4) % 256);
	}
	if (attack.selfDestruct && gen <= 4) defense = Math.floor(defense / 2);
	return [Math.max(strength, 1), Math.max(defense, 1)];
}

const isScreened = (attack, defender) => !attack.ignoresScreens && defender.screens.includes(attack.physical ? 'reflect' : 'lightscreen');

// Mean share per turn in which the attacker is not idle.
function damageRate(weapons, attacker, defender) {
	let best = 0;
	for (const each of weapons) best = Math.max(best, (each.slow ? 0.5 : 1) * each.accuracy * hitShare(each, attacker, defender));
	return best * (attacker.status === 'par' ? 0.75 : 1);
}

// What the rest of the duel brings: the worth that theirs loses, less the worth that mine loses. Where `mine` enters,
// theirs attacks first.
function outlook(mine, myWeapons, theirs, theirWeapons, { entering = false } = {}) {
	const myRate = damageRate(myWeapons, mine, theirs), theirRate = damageRate(theirWeapons, theirs, mine);
	if (!entering) return fightOut(mine, myRate, theirs, theirRate, mine.hp, theirs.idle);
	const left = Math.max(0, mine.hp - Math.max(0, 1 - theirs.idle) * theirRate);
	const lost = worth(mine.status, mine.hp) - worth(mine.status, left);
	return left > 0 ? fightOut(mine, myRate, theirs, theirRate, left, Math.max(0, theirs.idle - 1)) - lost : -lost;
}

function fightOut(mine, plainRate, theirs, theirPlainRate, myHP, theirIdle) {
	const myRate = plainRate + chip(theirs.status), theirRate = theirPlainRate + chip(mine.status);
	const myTurns = turnsUntil(theirs.hp, myRate, mine.idle), theirTurns = turnsUntil(myHP, theirRate, theirIdle);
	if (Math.min(myTurns, theirTurns) > HORIZON) return 0;
	const first = mine.speed > theirs.speed;
	let myLeft = 0, theirLeft = 0;
	if (myTurns < theirTurns || (myTurns === theirTurns && first)) {
		myLeft = Math.max(myHP - Math.max(0, myTurns - first - theirIdle) * theirRate, LEAST_HP);
	} else {
		theirLeft = Math.max(theirs.hp - Math.max(0, theirTurns - !first - mine.idle) * myRate, LEAST_HP);
	}
	return worth(theirs.status, theirs.hp) - worth(theirs.status, theirLeft) - worth(mine.status, myHP) + worth(mine.status, myLeft);
}

const chip = status => status && CHIP.get(status) || 0;
const turnsUntil = (hp, rate, idle) => rate <= 0 ? Infinity : idle + Math.max(1, Math.ceil(hp / rate - 0.1));

function statusLands(move, target, sleepClause) {
	if (target.status || target.behindSubstitute) return false;
	if (['goodasgold', 'magicbounce'].includes(target.ability) || (move.status === 'slp' && sleepClause)) return false;
	if (move.flags.powder && target.gen >= 6 && target.types.includes('Grass')) return false;
	if (move.id === 'thunderwave' && !effectiveness(target.dex, move.type, target.types)) return false;
	if (move.status === 'par' && target.gen < 6) return true;
	return !(STATUS_IMMUNE[move.status] || []).some(type => target.types.includes(type));
}

const expected = (attack, share, defender) => attack.accuracy * Math.min(defender.hp, share);

// A move with its attack, for rateOptions.
const moveOf = (dex, id) => keep(dex, `move ${id}`, () => ({ id, move: dex.moves.get(id), attack: attackOf(dex, id) }));

function rateMove({ move, attack }, mine, theirs, sleepClause) {
	if (!move.exists) return 0;
	if (!attack) return rateStatusMove(move, mine, theirs, sleepClause);
	const share = hitShare(attack, mine, theirs), rating = expected(attack, share, theirs);
	if (attack.selfDestruct) return mine.hp <= EXPLODE_BELOW && rating >= EXPLODE_FOR ? rating : 0;
	if (!attack.charges && share >= theirs.hp) return rating + attack.accuracy;
	return attack.slow ? rating / 2 : rating;
}

function rateStatusMove(move, mine, theirs, sleepClause) {
	const heals = move.heal || (mine.gen === 1 && move.flags.heal && move.id !== 'rest');
	if (heals) return mine.hp <= HEAL_BELOW ? HEALING_RATING : 0;
	if (move.id === 'rest') {
		const safe = mine.hp <= REST_BELOW && damageRate(assumedWeapons(theirs.dex, theirs), theirs, mine) < REST_UNDER;
		return safe ? HEALING_RATING : 0;
	}
	if (move.status && theirs.hp > STATUS_ABOVE && statusLands(move, theirs, sleepClause)) {
		return (STATUS_RATING[move.status] || OTHER_STATUS_RATING) * (move.accuracy === true ? 1 : move.accuracy / 100);
	}
	return 0;
}

// What a side may choose at its present request: {choice, move} or {choice, pokemon}, moves by their names first.
function optionsOf(side) {
	const { forceSwitch, active } = side.activeRequest;
	const [own] = active || [], options = [];
	for (const [i, move] of forceSwitch ? [] : own.moves.entries()) {
		if (!move.disabled) options.push({ choice: `move ${i + 1}`, move: move.id });
	}
	options.sort((first, second) => first.move < second.move ? -1 : 1);
	if (own?.canTerastallize) options.push(...options.map(each => ({ ...each, choice: `${each.choice} terastallize`, tera: own.canTerastallize })));
	if (own?.trapped) return options;
	for (const [i, pokemon] of side.pokemon.entries()) {
		if (i >= side.active.length && !pokemon.fainted) options.push({ choice: `switch ${i + 1}`, pokemon });
	}
	return options;
}

// The side's choice, as it is sent.
function choose(side) {
	const options = optionsOf(side);
	if (options.length < 2) return options.length ? options[0].choice : 'default';
	const [active] = side.active, [opponent] = side.foe.active;
	if (!active || !opponent) return 'default';
	const { dex } = side.battle, theirs = fighter(opponent, { seen: true });
	for (const option of options) {
		if (option.move) option.move = moveOf(dex, option.move);
		else Object.assign(option, { entering: fighter(option.pokemon, { entering: true }), weapons: weaponsOf(dex, option.pokemon.moves) });
	}
	const must = Boolean(side.activeRequest.forceSwitch), sleepClause = side.foe.pokemon.some(pokemon => pokemon.status === 'slp');
	const ratings = rateOptions(options, fighter(active), weaponsOf(dex, active.moves), theirs, assumedWeapons(dex, theirs), { must, sleepClause });
	return options[ratings.indexOf(Math.max(...ratings))].choice;
}

// A rating for each option: {move (of moveOf), tera} or {entering: who comes in, weapons: with what}.
function rateOptions(options, mine, myWeapons, theirs, theirWeapons, { must, sleepClause }) {
	let now;
	const present = () => now ??= outlook(mine, myWeapons, theirs, theirWeapons);
	const most = worth(theirs.status, theirs.hp) + (1 - ALIVE) * LEAST_HP;
	const teraGain = type => {
		if (type === 'Stellar' || most <= present() + TERA_MARGIN) return -0.01;
		const changed = { ...mine, types: [type], stabTypes: [...mine.stabTypes, type] };
		return outlook(changed, myWeapons, theirs, theirWeapons) - present() > TERA_MARGIN ? 0.01 : -0.01;
	};
	const stays = options.some(option => option.move);
	return options.map(({ move, tera, entering, weapons }) => {
		if (move) return rateMove(move, mine, theirs, sleepClause) + (tera ? teraGain(tera) : 0);
		const least = must ? -Infinity : present() + SWITCH_MARGIN;
		if (most <= least && stays) return -SWITCH;
		const entry = outlook(entering, weapons, theirs, theirWeapons, { entering: !must });
		return entry + (entry > least ? SWITCH : -SWITCH);
	});
}

module.exports = { MEAN_ROLL, assumedWeapons, attackOf, choose, fighter, keep, moveOf, outlook, rateOptions, stage, strike, weaponsOf, worth };
