// Plays battles on Showdown's simulator as a library and tells what it held itself at the end of each turn.
//
//     node scripts/play_battles.js NODE_MODULES/pokemon-showdown < jobs > battles
//
// A job is a line of JSON: {"format": "gen9ou", "seed": 7, "teams": "random", "choices": 400}; "mechanics" draws teams
// from SETS below, and a battle ends after so many choices at the latest. A battle is a line, too: the simulator's log
// (events that a side sees otherwise after "|split|"), the state at each "|turn|" line and at the end, and for each
// entrance which Pokémon it really was.
"use strict";

const path = require("path");
const readline = require("readline");
const {BattleStream, Battle, Dex, PRNG, Teams} = require(path.resolve(process.argv[2], "dist/sim"));

// Species | ability | item | moves. What a generation lacks is left out of its teams.
const SETS = `
Zoroark|Illusion|Life Orb|Night Daze,U-turn,Nasty Plot,Sludge Bomb
Zoroark|Illusion|Leftovers|Substitute,Knock Off,Taunt,Will-O-Wisp
Zoroark-Hisui|Illusion|Toxic Orb|Bitter Malice,U-turn,Nasty Plot,Tera Blast
Zorua|Illusion|Eviolite|Foul Play,U-turn,Rest,Pursuit
Charizard|Blaze|Charizardite Y|Fire Blast,Roost,Solar Beam,Toxic
Charizard|Blaze|Charizardite X|Dragon Dance,Flare Blitz,Roost,Outrage
Scizor|Technician|Scizorite|Bullet Punch,U-turn,Roost,Swords Dance
Gengar|Levitate|Gengarite|Shadow Ball,Perish Song,Substitute,Destiny Bond
Rayquaza|Air Lock||Dragon Ascent,Extreme Speed,Roar,Dragon Dance
Kyogre|Drizzle|Blue Orb|Scald,Rest,Sleep Talk,Thunder
Groudon|Drought|Red Orb|Lava Plume,Roar,Toxic,Stealth Rock
Necrozma-Dusk-Mane|Prism Armor|Ultranecrozium Z|Photon Geyser,Swords Dance,Morning Sun,Earthquake
Necrozma-Dawn-Wings|Prism Armor|Ultranecrozium Z|Photon Geyser,Heat Wave,Moonlight,Trick Room
Ditto|Imposter|Choice Scarf|Transform
Ditto|Imposter|Quick Powder|Transform
Mew|Synchronize|Leftovers|Transform,Baton Pass,Nasty Plot,Soft-Boiled
Pawmot|Volt Absorb|Leftovers|Revival Blessing,Close Combat,Knock Off,Wish
Rabsca|Synchronize|Leftovers|Revival Blessing,Psychic,Bug Buzz,Recover
Cyclizar|Regenerator|Heavy-Duty Boots|Shed Tail,Knock Off,Rapid Spin,U-turn
Orthworm|Earth Eater|Sitrus Berry|Shed Tail,Body Press,Spikes,Stealth Rock
Scolipede|Speed Boost|Black Sludge|Baton Pass,Toxic Spikes,Spikes,Megahorn
Oricorio|Dancer|Leftovers|Revelation Dance,Quiver Dance,Roost,U-turn
Quaquaval|Moxie|Leftovers|Aqua Step,Swords Dance,Roost,Rapid Spin
Cinderace|Libero|Heavy-Duty Boots|Court Change,U-turn,Pyro Ball,Will-O-Wisp
Vaporeon|Water Absorb|Leftovers|Wish,Protect,Scald,Heal Bell
Blissey|Natural Cure|Leftovers|Wish,Heal Bell,Seismic Toss,Thunder Wave
Blissey|Healer|Shed Shell|Aromatherapy,Toxic,Soft-Boiled,Healing Wish
Gardevoir|Trace|Choice Scarf|Healing Wish,Trick,Moonblast,Will-O-Wisp
Cresselia|Levitate|Leftovers|Lunar Dance,Moonlight,Toxic,Ice Beam
Starmie|Natural Cure|Leftovers|Recover,Rapid Spin,Scald,Pain Split
Slowbro|Regenerator|Rocky Helmet|Slack Off,Teleport,Scald,Future Sight
Amoonguss|Regenerator|Black Sludge|Spore,Clear Smog,Giga Drain,Synthesis
Tornadus-Therian|Regenerator|Assault Vest|U-turn,Hurricane,Knock Off,Heat Wave
Toxapex|Regenerator|Black Sludge|Toxic Spikes,Recover,Haze,Scald
Breloom|Poison Heal|Toxic Orb|Spore,Substitute,Seed Bomb,Protect
Gliscor|Poison Heal|Toxic Orb|Protect,Earthquake,Toxic,Knock Off
Skarmory|Sturdy|Leftovers|Whirlwind,Spikes,Roost,Toxic
Hippowdon|Sand Stream|Leftovers|Roar,Stealth Rock,Slack Off,Yawn
Garchomp|Rough Skin|Red Card|Dragon Tail,Earthquake,Stealth Rock,Toxic
Landorus-Therian|Intimidate|Eject Button|U-turn,Earthquake,Stealth Rock,Toxic
Rotom-Wash|Levitate|Eject Pack|Volt Switch,Pain Split,Overheat,Will-O-Wisp
Aegislash|Stance Change|Leftovers|King's Shield,Shadow Ball,Toxic,Sacred Sword
Palafin|Zero to Hero|Leftovers|Flip Turn,Jet Punch,Wave Crash,Taunt
Terapagos|Tera Shift|Leftovers|Tera Starstorm,Rapid Spin,Rest,Calm Mind
Mimikyu|Disguise|Life Orb|Play Rough,Shadow Sneak,Swords Dance,Curse
Eiscue|Ice Face|Salac Berry|Belly Drum,Icicle Crash,Hail,Snowscape
Morpeko|Hunger Switch|Leftovers|Aura Wheel,Parting Shot,Seed Bomb,Protect
Ogerpon-Wellspring|Water Absorb|Wellspring Mask|Ivy Cudgel,U-turn,Horn Leech,Swords Dance
Ogerpon|Defiant|Leftovers|Ivy Cudgel,U-turn,Synthesis,Encore
Minior|Shields Down|White Herb|Shell Smash,U-turn,Acrobatics,Rest
Wishiwashi|Schooling|Leftovers|Scald,U-turn,Rest,Sleep Talk
Zygarde|Power Construct|Leftovers|Thousand Arrows,Rest,Dragon Tail,Substitute
Cramorant|Gulp Missile|Leftovers|Surf,Roost,Defog,U-turn
Greninja|Battle Bond|Expert Belt|Surf,Dark Pulse,Spikes,U-turn
Greninja-Bond|Battle Bond|Expert Belt|Surf,Dark Pulse,Spikes,U-turn
Meloetta|Serene Grace|Leftovers|Relic Song,Close Combat,U-turn,Rest
Shaymin-Sky|Serene Grace|Life Orb|Air Slash,Seed Flare,Healing Wish,Rest
Castform|Forecast|Leftovers|Weather Ball,Rain Dance,Sunny Day,Hail
Cherrim|Flower Gift|Leftovers|Sunny Day,Solar Beam,Healing Wish,Rest
Darmanitan|Zen Mode|Leftovers|Flare Blitz,U-turn,Substitute,Rest
Darmanitan-Galar|Zen Mode|Leftovers|Icicle Crash,U-turn,Substitute,Rest
Arceus-Ghost|Multitype|Spooky Plate|Judgment,Recover,Will-O-Wisp,Roar
Silvally-Steel|RKS System|Steel Memory|Multi-Attack,Parting Shot,Rest,U-turn
Zacian|Intrepid Sword|Rusted Sword|Behemoth Blade,Play Rough,Close Combat,Substitute
Giratina-Origin|Levitate|Griseous Orb|Dragon Tail,Hex,Rest,Will-O-Wisp
Genesect|Download|Douse Drive|Techno Blast,U-turn,Bug Buzz,Explosion
Keldeo-Resolute|Justified|Leftovers|Secret Sword,Scald,Calm Mind,Roar
Urshifu-Rapid-Strike|Unseen Fist|Choice Band|Surging Strikes,U-turn,Close Combat,Aqua Jet
Xerneas|Fairy Aura|Power Herb|Geomancy,Moonblast,Rest,Aromatherapy
Shedinja|Wonder Guard|Focus Sash|Shadow Sneak,Baton Pass,Protect,Swords Dance
Clefable|Magic Guard|Sticky Barb|Soft-Boiled,Trick,Moonblast,Moonlight
Gyarados|Intimidate|Leftovers|Waterfall,Dragon Tail,Dragon Dance,Rest
Lapras-Gmax|Water Absorb|Leftovers|Surf,Ice Beam,Perish Song,Rest
Charizard-Gmax|Blaze|Leftovers|Fire Blast,Air Slash,Roost,Toxic
Togekiss|Serene Grace|Leftovers|Nasty Plot,Air Slash,Roost,Wish
Porygon2|Trace|Eviolite|Recover,Tri Attack,Thunder Wave,Trick Room
Gholdengo|Good as Gold|Air Balloon|Make It Rain,Shadow Ball,Nasty Plot,Recover
Klefki|Prankster|Leftovers|Thunder Wave,Spikes,Switcheroo,Foul Play
Whimsicott|Prankster|Leftovers|Memento,Leech Seed,Substitute,U-turn
Weezing-Galar|Neutralizing Gas|Black Sludge|Will-O-Wisp,Strange Steam,Pain Split,Explosion
Snorlax|Immunity|Leftovers|Rest,Sleep Talk,Curse,Body Slam
Gothitelle|Shadow Tag|Leftovers|Rest,Heal Pulse,Psychic,Trick
Comfey|Triage|Leftovers|Draining Kiss,Floral Healing,U-turn,Aromatherapy
Miltank|Natural Cure|Leftovers|Milk Drink,Heal Bell,Body Slam,Curse
Sylveon|Pixilate|Leftovers|Wish,Protect,Hyper Voice,Heal Bell
Dondozo|Unaware|Leftovers|Order Up,Rest,Sleep Talk,Wave Crash
Hatterene|Magic Bounce|Leftovers|Psychic,Healing Wish,Nuzzle,Mystical Fire
Espeon|Magic Bounce|Light Clay|Reflect,Light Screen,Baton Pass,Morning Sun
Jirachi|Serene Grace|Leftovers|Iron Head,Wish,Body Slam,Healing Wish
Cloyster|Skill Link|Focus Sash|Shell Smash,Icicle Spear,Explosion,Rapid Spin
Suicune|Pressure|Leftovers|Rest,Sleep Talk,Scald,Roar
Cofagrigus|Mummy|Leftovers|Toxic Spikes,Will-O-Wisp,Pain Split,Hex
Toxtricity|Punk Rock|Throat Spray|Overdrive,Boomburst,Sludge Wave,Shift Gear
`.trim().split("\n");

function mulberry(seed) {
	return function (n) {
		seed = (seed + 0x6D2B79F5) | 0;
		let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) % n;
	};
}

function mechanicsTeam(dex, draw) {
	const team = [];
	const taken = new Set();
	while (team.length < 6) {
		// every third Pokémon may be one in disguise
		const [name, ability, item, moves] = SETS[draw(3) ? draw(SETS.length) : draw(4)].split("|");
		const species = dex.species.get(name);
		if (species.gen > dex.gen || taken.has(species.baseSpecies) || (dex.gen < 8 && species.name.endsWith("-Gmax"))) continue;
		const known = moves.split(",").filter(move => dex.moves.get(move).gen <= dex.gen);
		taken.add(species.baseSpecies);
		team.push({
			name: draw(3) ? species.baseSpecies : `Nick ${team.length}${draw(100)}`,
			species: species.name,
			ability: dex.gen < 3 || dex.abilities.get(ability).gen > dex.gen ? Object.values(species.abilities)[0] : ability,
			item: dex.items.get(item).gen > dex.gen ? "" : item,
			moves: known.length ? known : ["Tackle"],
			nature: "Serious",
			level: draw(4) ? 100 : 80 + draw(20),
			teraType: ["Water", "Ghost", "Fire", "Stellar", "Grass"][draw(5)],
			evs: {hp: draw(253), atk: 84, def: 84, spa: 84, spd: 84, spe: draw(253)},
		});
	}
	return team;
}

function choose(side, draw) {
	const request = side.activeRequest;
	if (!request || request.wait) return;
	for (let tries = 0; tries < 20; tries++) {
		if (side.choose(anyChoice(request, draw))) return;
		side.clearChoice();
	}
	side.autoChoose();
}

function anyChoice(request, draw) {
	if (request.teamPreview) return "team " + [1, 2, 3, 4, 5, 6].slice(0, request.side.pokemon.length).sort(() => draw(3) - 1).join("");
	const bench = request.side.pokemon.map((_, i) => i + 1);
	if (request.forceSwitch || !draw(4)) return `switch ${bench[draw(bench.length)]}`;
	const active = request.active[0];
	const change = ["", "", "", " mega", " ultra", " zmove", " dynamax", " terastallize", " megax", " megay"][draw(10)];
	return `move ${1 + draw(active.moves.length)}${change}`;
}

function stateOf(battle) {
	return battle.sides.map(side => side.pokemon.map(p => ({
		id: p.truthId,
		name: p.name,
		species: p.details.split(",")[0],
		forme: p.baseSpecies === p.species ? p.details.split(",")[0] : p.species.name,
		secret: p.getHealth().secret,
		shared: p.getHealth().shared,
		status: p.fainted ? "" : p.status,
		active: p.isActive && !p.fainted,
		seen: p.previouslySwitchedIn > 0,
		tera: p.terastallized || "",
		transformed: p.transformed,
		abilityLeft: p.abilityLeft || "",
	})));
}

function play({format, seed, teams, choices}) {
	const draw = mulberry(seed);
	const battle = new Battle({formatid: format, seed: [seed & 0xffff, 11, 7, 5]});
	const entrances = [];
	const add = battle.add;
	battle.add = function (...parts) {
		if (["switch", "drag", "replace"].includes(parts[0])) {
			const [kind, p] = parts;
			const again = kind !== "replace" && !parts.some(part => typeof part === "function");
			if (!again) entrances.push({line: battle.log.length, kind, side: p.side.n, id: p.truthId, as: (p.illusion || p).truthId});
		}
		return add.apply(battle, parts);
	};
	const runEvent = battle.runEvent;
	battle.runEvent = function (event, target, ...rest) {
		if (event === "SwitchOut") target.abilityLeft = target.ability;
		return runEvent.call(battle, event, target, ...rest);
	};
	const make = () => teams === "random" ? Teams.generate(format, {seed: [draw(65536), draw(65536), draw(65536), draw(65536)]}) : mechanicsTeam(Dex.forFormat(Dex.formats.get(format)), draw);
	const start = battle.start;
	battle.start = function () { // the first entrances happen in here
		for (const side of battle.sides) side.pokemon.forEach((p, i) => { p.truthId = i; });
		return start.apply(battle);
	};
	battle.setPlayer("p1", {name: "Ann", team: make()});
	battle.setPlayer("p2", {name: "Bob", team: make()});
	const states = [];
	let read = 0;
	for (let chosen = 0; ; chosen++) {
		for (; read < battle.log.length; read++) {
			if (battle.log[read].startsWith("|turn|")) states.push({line: read, sides: stateOf(battle)});
		}
		if (battle.ended || chosen === choices) break;
		for (const side of battle.sides) choose(side, draw);
		battle.commitChoices();
	}
	states.push({line: battle.log.length, sides: stateOf(battle)});
	return {format, seed, teams, log: battle.log, states, entrances, ended: battle.ended};
}

readline.createInterface({input: process.stdin}).on("line", line => {
	const job = JSON.parse(line);
	let battle;
	try {
		battle = play(job);
	} catch (error) {
		battle = {...job, error: String(error.stack)};
	}
	process.stdout.write(JSON.stringify(battle) + "\n");
});
