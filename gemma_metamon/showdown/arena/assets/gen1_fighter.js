// A Pokémon of gen1.js: what it is, what of it changes, and what its moves do.
'use strict';

const { assumedWeapons, attackOf, keep, moveOf, stage, weaponsOf } = require('./duelling.js');

// Moves that do nothing here.
const LEFT_OUT = new Set(['bide', 'conversion', 'disable', 'metronome', 'mimic', 'mirrormove', 'mist', 'transform']);
const BOOSTED = ['atk', 'def', 'spa', 'spd', 'spe', 'accuracy', 'evasion'];
const NO_BOOSTS = Object.fromEntries(BOOSTED.map(name => [name, 0]));
const FROZEN_IDLE = 30, SLEEP_IDLE = 2.4;

const planOf = (dex, id) => keep(dex, `plan ${id}`, () => makePlan(dex, id));

// What a move does, in gen 1.
function makePlan(dex, id) {
	const move = dex.moves.get(id), [second] = move.secondaries || [];
	return {
		id, known: moveOf(dex, id), attack: LEFT_OUT.has(id) ? null : attackOf(dex, id), priority: move.priority, isLeftOut: LEFT_OUT.has(id),
		accuracy: move.accuracy === true ? 256 : Math.floor(move.accuracy * 255 / 100), type: move.type,
		status: move.status || null, boosts: move.boosts || null, onSelf: move.target === 'self', multihit: move.multihit || 0,
		confuses: move.volatileStatus === 'confusion', seeds: id === 'leechseed', screen: ['reflect', 'lightscreen'].includes(id) ? id : null,
		second: second && { ...second, chance: Math.ceil(second.chance * 256 / 100) - (second.volatileStatus === 'confusion' ? 1 : 0) },
		drains: Boolean(move.drain), recoil: move.recoil ? move.recoil[0] / move.recoil[1] : 0, recharges: Boolean(move.flags.recharge),
		charges: Boolean(move.flags.charge), hides: id === 'dig' || id === 'fly', traps: move.volatileStatus === 'partiallytrapped',
		heals: id === 'recover' || id === 'softboiled', counters: id === 'counter', ohko: Boolean(move.ohko),
		selfDestruct: Boolean(move.selfdestruct), crashes: Boolean(move.hasCrashDamage),
	};
}

// A Pokémon: the fields that duelling.js reads of a fighter, and what of it changes.
class Fighter {
	constructor(from) {
		this.dex = from.dex; this.gen = 1; this.level = from.level; this.types = from.types; this.stabTypes = from.stabTypes;
		this.stats = from.stats; this.maxhp = from.maxhp; this.baseSpeed = from.baseSpeed; this.ability = '';
		this.number = from.number; this.known = from.known; this.plans = from.plans; this.weapons = from.weapons; this.assumed = from.assumed;
		this.boosts = from.boosts; this.status = from.status; this.screens = from.screens; this.left = from.left; this.hp = from.hp;
		this.plain = from.plain; this.speed = from.speed; this.idle = 0; this.asleep = from.asleep; this.slept = from.slept;
		this.rests = from.rests; this.confused = from.confused; this.staggered = from.staggered; this.substitute = from.substitute; this.behindSubstitute = from.behindSubstitute;
		this.seeded = from.seeded; this.toxic = from.toxic; this.recharging = from.recharging; this.charging = from.charging;
		this.hidden = from.hidden; this.wrap = from.wrap; this.wrapTurns = from.wrapTurns; this.wrapDamage = from.wrapDamage;
		this.flinches = false; this.pp0 = from.pp0; this.pp1 = from.pp1; this.pp2 = from.pp2; this.pp3 = from.pp3;
	}
}

// The Fighter of the simulator's Pokémon; `known` is shared by all of the battle (see strike in duelling.js).
function fighterOf(pokemon, number, known) {
	const { battle: { dex }, volatiles, statusState } = pokemon, status = pokemon.hp ? pokemon.status : '';
	const slots = pokemon.moveSlots;
	const fields = {
		dex, number, known, level: pokemon.level, types: pokemon.getTypes(), stabTypes: pokemon.species.types, stats: pokemon.storedStats,
		maxhp: pokemon.maxhp, baseSpeed: pokemon.species.baseStats.spe, plans: slots.map(slot => planOf(dex, slot.id)),
		weapons: weaponsOf(dex, slots.map(slot => slot.id)), boosts: { ...pokemon.boosts }, status,
		screens: ['reflect', 'lightscreen'].filter(name => volatiles[name]), left: pokemon.hp, hp: pokemon.hp / pokemon.maxhp,
		asleep: status === 'slp' ? Math.max(1, statusState.time) : 0, rests: status === 'slp' && !statusState.drawn?.time,
		slept: status === 'slp' ? (statusState.drawn?.time || 0) - statusState.time : 0, confused: volatiles.confusion?.time || 0,
		staggered: volatiles.confusion ? (volatiles.confusion.drawn?.time || 0) - volatiles.confusion.time : 0,
		substitute: volatiles.substitute?.hp || 0, behindSubstitute: Boolean(volatiles.substitute), seeded: Boolean(volatiles.leechseed),
		toxic: volatiles.residualdmg?.counter || 0, recharging: Boolean(volatiles.mustrecharge), charging: -1, hidden: false,
		wrap: -1, wrapTurns: 0, wrapDamage: 0, ...Object.fromEntries([0, 1, 2, 3].map(i => [`pp${i}`, slots[i]?.pp ?? 0])),
	};
	fields.assumed = assumedWeapons(dex, fields);
	const slotOf = id => slots.findIndex(slot => slot.id === id);
	if (volatiles.twoturnmove) fields.charging = slotOf(volatiles.twoturnmove.move);
	const lock = volatiles.partialtrappinglock;
	if (lock) Object.assign(fields, { wrap: slotOf(lock.move), wrapTurns: lock.duration - 1, wrapDamage: lock.damage || 0 });
	const made = new Fighter(fields);
	refresh(made);
	return made;
}

// What follows from the boosts and the status.
function refresh(fighter) {
	const { boosts } = fighter;
	fighter.plain = !fighter.screens.length && fighter.status !== 'brn' && !boosts.atk && !boosts.def && !boosts.spa && !boosts.spd;
	fighter.speed = fighter.stats.spe * stage(boosts.spe) * (fighter.status === 'par' ? 0.25 : 1);
}

const idleOf = ({ status }) => status === 'slp' ? SLEEP_IDLE : status === 'frz' ? FROZEN_IDLE : 0;

// Who cannot choose, or whose choice changes nothing.
const isHeld = fighter => fighter.recharging || fighter.charging >= 0 || (fighter.wrapTurns > 0 && fighter.wrap >= 0);

const ppOf = (fighter, i) => i === 0 ? fighter.pp0 : i === 1 ? fighter.pp1 : i === 2 ? fighter.pp2 : fighter.pp3;

function spend(fighter, i) {
	if (i === 0) fighter.pp0--;
	else if (i === 1) fighter.pp1--;
	else if (i === 2) fighter.pp2--;
	else if (i === 3) fighter.pp3--;
}

function interrupt(fighter) {
	fighter.wrapTurns = 0;
	fighter.charging = -1;
	return false;
}

function boost(fighter, boosts) {
	fighter.boosts = { ...fighter.boosts };
	for (const name of BOOSTED) if (boosts[name]) fighter.boosts[name] = Math.max(-6, Math.min(6, fighter.boosts[name] + boosts[name]));
	refresh(fighter);
}

module.exports = { Fighter, NO_BOOSTS, boost, fighterOf, idleOf, interrupt, isHeld, planOf, ppOf, refresh, spend };
