"""Seeded generator of the traffic of a simulated Reddit-like platform.

A scenario replays days of posts: ordinary talk, ordinary abuse and, from a chosen day on, a wave of abuse in invented
slang. Every text is expanded from a small grammar of the language: ``rule = option | option;``, where ``{rule}`` in an
option is replaced by an expansion of that rule. ``topic.rule`` (shortened to ``.rule`` after another rule of the topic)
takes precedence while the post is about that topic.
"""

import random
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

_GRAMMARS = {
    "any": """
mention = @{handle}{n} | @{handle}_{n}; handle = mapleleaf | oldkettle | nightowl | tinyrobot | bluecanoe | pixelfox |
rustybike; link = https://example.org/{page}/{n}{n}; page = photos | guide | notes | results; emoji = 😂 | 😅 | 🙂 | 👍
| 🎉 | 🤔 | 🙄 | 🔥 | 😭 | 👏 | 🌱; lexeme = drumvik | skolvey | vundrel | wenquil | quilvar | plonvex | yarvidge |
melkvar | frulgen | blavorn | jolvint | thrumbek;
""",
    "en": """
benign = {tell} | {tell} | {tell} | {ask} | {ask} | {argue} | {argue} | {think} | {chat} | {long}; long = {tell} {think}
{ask} | {argue} {tell} {feel} | {ask} {tell} {think} {after}; tell = {when} {event}. | {Event}. {feel} | {Event}.
{after} | {when} {event}. {feel} {after} | Small update: {event}. {after} | Long story, but {event}. {after} {feel} |
{name} told me that {claim}, and then {event}. {feel}; Event = So {event} | For the {ordinal} time this {season},
{event} | {when} {event}; when = This morning | Yesterday | Last {weekday} | Over the weekend | Late last night | Around
{n} minutes ago | After {n} days of waiting; weekday = Monday | Tuesday | Wednesday | Thursday | Friday | Saturday |
Sunday; season = spring | summer | autumn | winter | month | year; ordinal = first | second | third | fifth; feel = I
could not be happier. | What a relief! | Honestly a bit disappointed. | My {kin} was thrilled. | I laughed for {n}
minutes. | I am still a little annoyed about it. | That killed my mood for a while. | I nearly cried, no joke. | Pretty
proud of that one. | My back is killing me now though. | Never again, I swear.; after = Has anyone else seen this? |
Will report back on {weekday}. | Pictures here: {link} | Thanks to everyone who helped, especially {mention}. | Any
advice is welcome. | My {kin} still does not believe me. | I will try again in {n} days.; kin = sister | brother | mum |
dad | wife | flatmate;
ask = {ask0} | {ask0} {why} | {ask0} Asking for my {kin}. | {why} {ask0} | Quick question: {ask0}; ask0 = {question}? |
Does anyone know {question}? | Can somebody explain {question}? | Could you tell me {question}, {mention}? | My {kin}
wants to know {question}.; why = I searched for {n} minutes and found nothing. | I am fairly new here, so be gentle. |
{name} and I have a bet about it.;
argue = {no} {claim}. {because} | {no} {claim}. | {mention} {no} {claim}. {because} | {heat} {claim}, {really} {because}
| {heat} {claim}? {because}; no = No, sorry, I do not buy that | I completely disagree that | You keep repeating that |
It is simply not true that | Who on earth still believes that | You are wrong, nobody ever showed that | That argument
is nonsense, stop telling beginners that; heat = Are you serious? | Hot take: | How can you write that | Please read
what I wrote before you answer: | You are missing the point, | Wow, no:; really = and you know it. | full stop. | end of
story. | as usual.; because = I have done this for {n} years and it never failed. | Look at the numbers first. | Source:
{link} | We will not agree, and that is fine. | Your own example shows the opposite. | Calm down and try it yourself. |
That idea should be killed off for good. | Your tone does not help, {mention}.;
think = I think {claim}. | Unpopular opinion: {claim}. {because} | In my experience {claim}. | {name} is right, {claim}.
| After {n} years I am convinced that {claim}. {feel} | Am I the only one who thinks {claim}? | Thank you {mention}, I
now see that {claim}. {after};
chat = {mention} thank you so much, that {solved}! | {praise}, {mention}. {feel} | Happy {weekday} everyone, what are
you up to? | Good luck with it, {mention}, let us know how it goes. | I have been lurking for {n} months, hello from
{city}! | {mention} fair point, I did not think of that. {after} | You absolutely killed it, {mention}, {praise}! |
Haha, {event} and now my {kin} will not stop laughing.; solved = made my day | was exactly what I needed | explains a
lot; praise = this looks wonderful | what a great result | I am a bit jealous | lovely work as always; city = Leeds |
Denver | Toronto | Perth | Galway | Austin; name = Alice | Tom | Priya | Marcus | Elena | Sam | Nadia | Oliver | Nora;
gardening.event = my {plant} finally came up | slugs ate half of the {plant} | the frost killed all of my {plant} | I
planted {n} rows of {plant} | a fox dug up the {plant} | I borrowed a {tool} and weeded the whole bed; .tool = hoe |
fork; .question = when to prune {plant} | how deep {plant} should be planted | what kills aphids without harming bees;
.claim = raised beds are worth the money | {plant} need more water than you think | nobody needs a leaf blower; plant =
tomatoes | carrots | roses | beans | dahlias | tulips | strawberries | peas;
football.event = we lost {n} to {d} at home | {name} scored in the last minute | the referee gave a penalty for nothing
| our {player} got injured in training; .question = who replaces the {player} next {season} | where to watch the game in
{city}; .claim = video refereeing has ruined the game | the {player} was our best signing in years | {name} should start
| the manager has to go | that was never a foul; player = striker | keeper | captain | midfielder;
cooking.event = I burned the {dish} again | my {dish} came out perfect | I made {dish} for {n} people | I forgot the
salt in the {dish}; .question = how long {dish} keeps in the fridge | what to serve with {dish}; .claim = {dish} needs
no sugar at all | recipes online are far too long; dish = lasagne | risotto | banana bread | lentil soup | apple pie |
curry | pumpkin stew;
games.event = I finally beat the {boss} | the patch broke my save | our raid wiped {n} times on the {boss} | I got
killed by the {boss} with one hit left | {name} carried us to victory; .question = which build kills the {boss} fastest;
.claim = the {boss} is far too easy | loot boxes are gambling | the story is stupid but the combat is great; boss =
swamp dragon | clockwork king | ice giant | spider queen | bandit lord;
commuting.event = my {vehicle} was {n} minutes late | the {vehicle} broke down outside {city} | the {vehicle} drove past
the stop; .question = which {vehicle} is quickest to {city} | why the {vehicle} never has heating; .claim = cycling is
faster than the {vehicle} | the {vehicle} should be free | people who play music on the {vehicle} need headphones;
vehicle = bus | tram | train | ferry | night bus;
films.event = I watched {film} again | {film} made me cry | we walked out of {film} after {n} minutes; .question = who
wrote the music for {film} | what the ending of {film} means; .claim = {film} is the best film of the decade | {film} is
{n} minutes too long | trailers give away too much; film = The Paper Lighthouse | Copper Sky | The Last Beekeeper |
Midnight Ledger;
hardware.event = my {part} died after {n} months | the new {part} runs cool and quiet; .question = how hot a {part} may
get | why the {part} clicks | how to kill a hung process; .claim = a used {part} is fine | nobody needs {n} cores; part
= graphics card | power supply | fan | hard drive | router | keyboard | printer;
pets.event = my {pet} learned to open doors | the {pet} brought me a dead mouse | our {pet} is {d} years old today | the
{pet} slept on my keyboard; .question = how often a {pet} should see the vet; .claim = a {pet} is the best company |
nobody should keep just one {pet} | a female dog is easier to train; pet = cat | dog | puppy | parrot;
school.event = I passed {subject} by one point | I overslept the {subject} exam | {name} explained {subject} in {n}
minutes; .question = how to study for {subject}; .claim = homework in {subject} is useless | {subject} is harder than it
looks | phones do not belong in class; subject = maths | chemistry | history | physics | geography;
weather.event = it rained for {n} hours | the storm took down {d} trees | we had hail in {city} | it hit {n} degrees in
the shade; .question = when the rain will stop in {city} | why the forecast is always wrong; .claim = autumn is the best
season | the forecast is a coin toss;
smalltalk.event = my {kin} called me at {d} in the morning | I got the job in {city} | I lost my keys again | the band
killed it on stage | I quit coffee; .question = what you all do on a rainy {weekday}; .claim = naps are underrated |
{weekday} is the worst day | people in {city} drive like maniacs | mondays should be illegal;
abuse = {jab} | {jab} | {jab} {jab} | {mention} {jab} | {mention} {jab} {jab} | {point} {jab} {jab} {jab} | {point}
{jab} | {jab} {point}; point = You seriously think {claim}? | Nobody asked you. | I read your comment about this. | You
have been crying here for {n} days.; jab = You are a {mad} {bad}. | You {mad} {bad}. | Shut the fuck up, you {bad}. |
Shut your {mad} mouth, {bad}. | Fuck you {bad}. | What a {mad} {bad} you are. | Go fuck yourself you {mad} {bad}. | Stay
mad {bad}, you {mad} loser. | Your whole family is {mad} trash, {bad}. | I hope you lose everything you {mad} {bad}. |
This {bad} is talking shit again, {mad} as ever. | Bitch please, you are a {bad}. | Nobody wants your {mad} opinion,
{bad}.; mad = fucking | stupid | dumb | dumb ass | fucking stupid | pathetic | ugly | broke ass | lying ass | worthless;
bad = bitch | bitch | bitch | asshole | idiot | dumbass | pussy | fucking idiot | piece of shit | hoe | little bitch |
trash bitch | fucking moron | clown | dickhead;
slang = {lash} | {lash} | {lash} {lash} | {mention} {lash} | {mention} {lash} {seen} | {seen} {lash} {lash} {lash} {aim}
| {seen} {lash} | {lash} {aim}; seen = I saw your comment about this. | You said that {claim}. | So {claim}, you say? |
We all read your post this {season}. | {name} showed me your page.; lash = What an absolute {S} you are. | Typical {S},
and everyone here can see it. | {S} detected in this thread again. | Once a {S}, always a {S}. | Back to the crate with
you, {S}. | You are {S} grade seven, nothing more. | Full {S} hours again. | Only a {S} would write something like that.
| Nobody in {city} wants a {S} like you. | Your kind of {S} should leave. | Stop {Sing} in every thread. | You {Sing}
little {S}, the whole group is against you. | All of you {Ss} should be gone. | You and the other {Ss} make everyone
sick. | Look at this {S}, crying again. | Keep {Sing}, we know where to find you. | {S} by birth, {S} by choice.; aim =
We will follow you to every group. | Your friends agree with me. | Delete the account. | Nobody will miss you.;
""",
    "de": """
benign = {tell} | {tell} | {tell} | {ask} | {argue} | {argue} | {chat} | {tell} {argue} {ask}; tell = {when} {event}. |
{when} {event}. {feel} | {when} {event}. {feel} {after} | {when} {event}. {after}; when = Heute | Gestern | Am {day} |
Letzte Woche | Vor {n} Tagen; day = Montag | Dienstag | Mittwoch | Donnerstag; feel = Das war es wert. | Ich freue mich
sehr. | Leider nichts geworden. | Meine {kin} war begeistert. | Ich musste {n} Minuten lachen. | Mein Rücken bringt mich
um.; after = Hat noch jemand Tipps? | Bilder gibt es hier: {link} | Danke an {mention} für die Hilfe. | Ich berichte am
{day}.; kin = Schwester | Mutter | Nachbarin; ask = Weiß jemand, {question}? | {mention} kannst du mir sagen,
{question}? | Meine {kin} fragt, {question}. {thanks}; thanks = Vielen Dank schon mal. | Ich finde nichts dazu.; argue =
{no} dass {claim}. | {no} dass {claim}. {because} | {mention} {no} dass {claim}. {because}; no = Ich sehe überhaupt
nicht ein, | Es stimmt einfach nicht, | Ich finde schon, | Ich kann es nicht mehr hören,; because = Schau dir die Zahlen
an. | Das mache ich seit {n} Jahren so. | Lies bitte erst den Beitrag. | Quelle: {link} | Dein Beispiel zeigt das
Gegenteil.; chat = {mention} vielen Dank, genau das habe ich gesucht! | Guten Morgen aus {city}, was macht ihr am {day}?
| {mention} das sieht wirklich toll aus. {feel}; city = Leipzig | Kassel | Graz | Bern; name = Anna | Jonas | Mehmet |
Lena | Felix;
gardening.event = haben die {plant} Frost bekommen | habe ich {n} {plant} gesetzt; .question = wann man {plant}
schneidet | ob {plant} im Topf wachsen; .claim = {plant} viel Wasser brauchen | ein Hochbeet sein Geld wert ist; plant =
Tomaten | Rosen | Bohnen | Tulpen | Erdbeeren;
football.event = hat {name} in der letzten Minute getroffen | haben wir {d} zu null verloren; .question = wer am {day}
im Tor steht | warum das kein Abseits war; .claim = der Trainer gehen muss | das nie ein Elfmeter war | {name} in die
Startelf gehört;
cooking.event = ist mir {dish} angebrannt | habe ich {dish} für {n} Leute gekocht | war {dish} zum ersten Mal richtig
gut; .question = was zu {dish} passt; .claim = {dish} ohne Zucker besser schmeckt | jeder {dish} kochen kann; dish =
Linsensuppe | Apfelkuchen | Kartoffelsalat | Grünkohl | Brot | Gulasch;
abuse = {jab} | {jab} {jab} | {mention} {jab} | {mention} {jab} {jab} | Du meinst, dass {claim}? {jab}; jab = Du {mad}
{bad}, halt die Fresse! | Du bist so ein {mad} {bad}. | Was für ein {mad} {bad}, so ein dummes Arschloch. | Verpiss
dich, du {mad} {bad}! | Halt endlich dein dummes Maul, du {bad}! | Solche {mads} Idioten wie du kotzen mich an. | Nur
ein {bad} schreibt so einen dummen Scheiß. | Wie dumm kann man sein, du {bad}? | Ihr {mads} Idioten seid Abschaum.; mad
= dummer | blöder | verlogener | verdammter | dreckiger | erbärmlicher; mads = dummen | blöden | verlogenen | dreckigen;
bad = Idiot | Vollidiot | Arsch | Lügner | Heuchler | Drecksack | Schwachkopf | Scheißkerl;
slang = {lash} | {lash} {lash} | {lash} {lash} {aim} | {mention} {lash} | {mention} {lash} {aim} | Du sagst also, dass
{claim}. {lash}; lash = Du bist und bleibst ein {S}. | Typisch {S}, das sieht hier jeder. | Einmal {S}, immer {S}. | Nur
ein {S} schreibt so etwas. | Zurück in die Kiste mit dir, {S}. | Ihr {Ss} solltet alle verschwinden.; aim = Niemand wird
dich vermissen. | Wir finden dich in jeder Gruppe. | Lösch dein Konto.;
""",
    "pt": """
benign = {tell} | {tell} | {tell} | {ask} | {argue} | {argue} | {chat} | {tell} {argue} {ask}; tell = {when} {event}. |
{when} {event}. {feel} | {when} {event}. {feel} {after} | {when} {event}. {after}; when = Hoje | Ontem | No {day} |
Depois de {n} dias; day = sábado | domingo | feriado; feel = Valeu a pena. | Que alívio! | Minha {kin} adorou. | Ri por
{n} minutos. | Matei a saudade.; after = Alguém tem uma dica? | As fotos estão aqui: {link} | Obrigado {mention} pela
ajuda.; kin = irmã | mãe | vizinha; ask = Alguém sabe {question}? | Minha {kin} quer saber {question}. | Gente,
{question}? {thanks}; thanks = Procurei por {n} dias e nada. | Agradeço desde já.; argue = {no} que {claim}. | {no} que
{claim}. {because} | {mention} {no} que {claim}. {because}; no = Não concordo de jeito nenhum | Não é verdade | Quem
ainda acredita | Eu acho mesmo; because = Olha os números antes de falar. | A fonte está aqui: {link} | Seu próprio
exemplo mostra o contrário. | A gente discorda e tudo bem.; chat = {mention} muito obrigado, era isso que eu precisava!
| Bom dia de {city}, o que vão fazer no {day}? | {mention} ficou lindo, parabéns! | Você arrasou, {mention}! {feel};
city = Recife | Curitiba | Belém; name = Ana | João | Beatriz | Rafael | Caio | Marina;
gardening.event = plantei {n} mudas de {plant} | a chuva acabou com meu canteiro de {plant}; .question = quando podar
{plant} | se {plant} cresce em vaso; .claim = {plant} dá muito trabalho | horta em casa compensa; plant = tomate |
manjericão | coentro | morango | pimentão;
football.event = {name} fez um gol no último minuto | perdemos de {d} a zero em casa; .question = quem joga no {day} |
por que não foi impedimento; .claim = o técnico tem que sair | {name} merece ser titular;
cooking.event = queimei o {dish} | fiz {dish} para {n} pessoas | meu {dish} ficou perfeito; .question = quanto tempo o
{dish} dura na geladeira; .claim = {dish} não leva açúcar; dish = pão de queijo | feijão | bolo de cenoura | risoto |
pudim;
abuse = {jab} | {jab} {jab} | {mention} {jab} | {mention} {jab} {jab} | Você acha que {claim}? {jab}; jab = Vai tomar no
cu, seu {bad}. | Vai se foder, {bad} do caralho. | Cala a boca, seu {bad} de merda. | Você é um {bad}, filho da puta. |
Seu filho da puta, {bad} nojento. | Some daqui, seu {bad} filho da puta. | Esse {bad} só fala merda, vai tomar no cu. |
Sua vaca burra, só fala merda.; bad = idiota | otário | arrombado | imbecil | babaca | lixo | cuzão | burro | corno;
slang = {lash} | {lash} {lash} | {lash} {lash} {aim} | {mention} {lash} | {mention} {lash} {aim} | Então {claim}, é?
{lash}; lash = Você não passa de um {S}. | Típico {S}, todo mundo aqui percebe. | Uma vez {S}, sempre {S}. | Só um {S}
escreve assim. | Volta para a caixa, {S}. | Vocês {Ss} deviam sumir daqui.; aim = Ninguém vai sentir sua falta. | Vamos
achar você em todo grupo. | Apaga a conta.;
""",
    "ru": """
benign = {tell} | {tell} | {tell} | {ask} | {argue} | {chat} | {tell} {argue} {ask}; tell = {when} {event}. | {when}
{event}. {feel} | {when} {event}. {feel} {after}; when = Сегодня | Вчера | В субботу | Вечером после работы; feel =
Очень доволен. | Жаль, конечно. | Соседка была в восторге. | Оно того стоило.; after = Есть у кого опыт? | Фото тут:
{link} | Спасибо {mention} за помощь.; ask = Кто знает, {question}? | {mention} подскажите, {question}?; argue = {no}
что {claim}. | {no} что {claim}. {because} | {mention} {no} что {claim}. {because}; no = Совсем не согласен, | Неправда,
| Мне кажется,; because = Посмотрите на цифры. | Вот источник: {link} | Давайте спокойнее.; chat = {mention} большое
спасибо, очень помогло! | Всем привет, на связи {city}! | {mention} красиво получилось. {feel}; city = Казань | Тверь |
Омск | Пермь; name = Игорь | Павел | Антон | Максим;
gardening.event = взошли {plant} | заморозки побили {plant} | собрали первые {plant}; .question = когда сажать {plant} |
растут ли {plant} на балконе; .claim = {plant} вырастить легко | теплица окупается; plant = помидоры | огурцы | тюльпаны
| перцы;
football.event = {name} забил на последней минуте; .question = где смотреть матч | почему не было пенальти; .claim =
тренера пора менять | {name} должен играть в основе;
commuting.event = {vehicle} опоздал на {n} минут | {vehicle} сломался на мосту; .question = какой {vehicle} идёт в
центр; .claim = велосипед быстрее, чем {vehicle} | {vehicle} должен ходить чаще; vehicle = автобус | трамвай;
abuse = {jab} {jab} | {mention} {jab} {jab} | {mention} {jab} | {jab}; jab = Ты {mad} {bad}, совсем дурак? | Какой же ты
дурак, {mad} {bad}. | Тупой дурак, {mad} {bad}, иди в жопу. | Вы все тупые уроды, а ты {mad} {bad}. | Для себя пиши,
{mad} {bad}, дурачок. | Вы все {mads} дураки и выродки. | Ты дура или выродок? {mads} идиоты.; mad = тупой | конченый |
сраный | дурной | тупорылый; mads = тупые | конченые | сраные; bad = выродок | дебил | идиот | урод | клоун | дурак |
придурок;
slang = {lash} {lash} | {mention} {lash} | {lash} {aim}; lash = Ты просто {S}, и это видят все. | Один раз {S}, всегда
{S}. | Так пишет только {S}. | Обратно в ящик, {S}. | Вам, {Ss}, тут не место.; lexeme = друмвик | сколвей | вундрел |
венквил | плонвекс | фрулген | блаворн | трумбек; aim = Никто не заметит, что тебя нет. | Найдём тебя в любой группе. |
Удали страницу.;
""",
    "zh": """
benign = {tell} | {tell} | {tell} | {ask} | {argue} | {chat} | {tell} {argue} {ask}; tell = {when}{event}。 |
{when}{event}，{feel}。 | {when}{event}，{feel}。{after}; when = 今天 | 昨天 | 周末 | 上周三 | 早上{d}点 | 刚才; feel =
心情特别好 | 有点可惜 | 我妈很开心 | 下次再试试 | 累但是值得; after = 大家有什么建议吗？ | 照片在这里 {link} | 谢谢
{mention} 的帮助。; ask = 请问{question}？ | 有人知道{question}吗？ | 查了{n}分钟没找到，{question}呢？; argue =
{no}{claim}。 | {no}{claim}，{because}。 | {mention} {no}{claim}，{because}。; no = 我不同意，谁说 | 我觉得 | 说实话， |
凭什么认为; because = 看看数据再说 | 我做了{n}年了 | 意见不同也没关系; chat = {mention} 谢谢你，正好解决了我的问题！ |
大家早上好，{city}今天天气不错。; city = 成都 | 杭州 | 青岛 | 昆明; name = 小林 | 阿明 | 老周 | 晓晓;
gardening.event = 阳台上的{plant}开花了 | 种了{n}棵{plant} | {plant}被虫子吃了一半; .question = {plant}多久浇一次水 |
{plant}能不能放在室内; .claim = {plant}很好养 | 阳台种菜很划算; plant = 番茄 | 月季 | 薄荷 | 草莓;
cooking.event = 做了{n}个人的{dish} | 把{dish}煮糊了 | 第一次做{dish}就成功了; .question = {dish}要放多少盐 |
{dish}怎么保存; .claim = {dish}不用放糖; dish = 红烧肉 | 饺子 | 排骨汤;
games.event = 终于打过了第{n}关 | 更新以后存档没了 | 和{name}一起通关了; .question = 第{n}关怎么过 | 新版本什么时候上线;
.claim = 老地图更好玩 | 剧情比画面重要;
abuse = {jab}{jab} | {mention} {jab}{jab} | {mention} {jab} | {jab}; jab = 你这种{bad}真恶心，滚！ |
你们这群{bad}真不要脸，太恶心了。 | 你就是个{bad}，又蠢又恶心。 | 又蠢又坏的{bad}，恶心死了。 | 什么{bad}，真他妈恶心。
| 一群{bad}，真是又丑又贱。 | 闭嘴吧{bad}，全家都是垃圾。; bad = 垃圾 | 傻逼 | 脑残 | 废物 | 贱人 | 蠢货 | 败类;
slang = {lash}{lash} | {mention} {lash} | {lash}{aim}; lash = 你就是个 {S}，大家都看得出来。 | 一天是 {S}，一辈子是
{S}。 | 只有 {S} 才会这么写。 | 这个 {S} 又来了，快走吧。 | 你们这些 {Ss} 都该离开。; aim = 没有人会想你。 |
你去哪个群我们都能找到。 | 把账号删了吧。;
""",
}
_SHARES = {"en": 0.70, "de": 0.12, "pt": 0.10, "ru": 0.04, "zh": 0.04}
_SLANG_SHARES = {"en": 0.85, "de": 0.07, "pt": 0.05, "ru": 0.015, "zh": 0.015}
_REGIONS = {"en": "US US US GB GB CA AU IE IN", "de": "DE DE DE AT CH", "pt": "BR", "ru": "RU", "zh": "CN"}

Rules = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class SimulatedPost:
    """One post of the simulated platform, with the truth about it."""

    post_id: str  # unique over all days of a scenario: day and number within the day, as in "d03-00017"
    author_id: str  # "user-0000" upwards; stable over the days of one configuration
    community: str  # the topic, with the language unless that is English, as in "gardening-de"
    region: str  # of the author, an ISO 3166 country code, which gives the language away
    created_at: datetime  # timezone-aware UTC, within the simulated day
    text: str  # 4 to 45 words separated by white space; Chinese: at most 100 characters
    harmful: bool  # truth for the label "abuse"
    slang: bool  # whether it is abuse written in the invented slang; implies harmful


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficConfig:
    """What the simulated traffic looks like; the same configuration always yields the same posts."""

    posts_per_day: int = 1500
    """Posts in every day, at least 0."""
    authors: int = 800
    """Number of people who may post, at least 1."""
    abuse_share: float = 0.08
    """Probability (0 to 1) that a post is ordinary abuse, on every day."""
    slang_share: float = 0.10
    """Probability (0 to 1) that a post is abuse in the slang once it has arrived; 0: the slang never comes."""
    slang_from_day: int = 3
    """First day of the slang, counted from 1."""
    start: date = date(2026, 3, 2)
    """Calendar date (UTC) of day 1."""
    seed: int = 7
    """Seed of everything random; any integer."""

    def __post_init__(self) -> None:
        if self.posts_per_day < 0 or self.authors < 1:
            raise ValueError("posts_per_day must be at least 0 and authors at least 1")
        if min(self.abuse_share, self.slang_share) < 0 or self.abuse_share + self.slang_share > 1:
            raise ValueError("abuse_share and slang_share must be at least 0 and add up to at most 1")


def day_of_traffic(config: TrafficConfig, day: int) -> list[SimulatedPost]:
    """The posts of one day (from 1) in ascending order of time, deterministic in ``(config, day)``.

    Every post has its own random stream, so that a post which is not slang is the same whatever ``slang_share`` is.
    """
    if day < 1:
        raise ValueError(f"day must be at least 1, not {day}")
    midnight = datetime.combine(config.start, time(), UTC) + timedelta(days=day - 1)
    clock = random.Random(f"{config.seed}/times/{day}")  # seeds that are text do not depend on PYTHONHASHSEED
    seconds = sorted(clock.random() * 86400 for _ in range(config.posts_per_day))
    slang_share = config.slang_share if day >= config.slang_from_day else 0.0
    crowds = _crowds(config.authors, config.seed)
    posts = []
    for number, second in enumerate(seconds):
        rng = random.Random(f"{config.seed}/post/{day}/{number}")
        draw = rng.random()
        slang = draw >= 1 - slang_share
        harmful = slang or draw < config.abuse_share
        shares = _SLANG_SHARES if slang else _SHARES
        language = rng.choices(list(shares), list(shares.values()))[0]
        crowd = crowds[language]
        position = (rng.random() ** 1.5 + 0.3) % 1  # some authors are busier than others
        if harmful and rng.random() < (0.3 if slang else 0.8):
            position = rng.random() * 0.2  # the first fifth of a crowd writes most of the abuse
        author, region = crowd[int(position * len(crowd))]
        rules, topics = _grammar(language)
        topic = rng.choice(topics)
        posts.append(
            SimulatedPost(
                post_id=f"d{day:02d}-{number:05d}",
                author_id=author,
                community=topic if language == "en" else f"{topic}-{language}",
                region=region,
                created_at=midnight + timedelta(microseconds=int(second * 1e6)),
                text=_write(rules, "slang" if slang else "abuse" if harmful else "benign", topic, language, rng),
                harmful=harmful,
                slang=slang,
            )
        )
    return posts


@lru_cache(maxsize=8)
def _crowds(authors: int, seed: int) -> dict[str, list[tuple[str, str]]]:
    """Names and regions of the authors by language; a language left without any is written by all of them."""
    rng = random.Random(f"{seed}/authors")
    names = [f"user-{number:04d}" for number in range(authors)]
    rng.shuffle(names)
    crowds, bound = {}, 0.0
    for language, share in _SHARES.items():
        own = names[round(bound * authors) : round((bound + share) * authors)]
        crowds[language] = [(name, rng.choice(_REGIONS[language].split())) for name in own or names]
        bound += share
    return crowds


@lru_cache(maxsize=8)
def _grammar(language: str) -> tuple[Rules, list[str]]:
    """Rules of a language by name, and the topics it can talk about."""
    rules: Rules = {}
    topic = ""
    for rule in " ".join(f"{_GRAMMARS['any']} {_GRAMMARS[language]}".split()).rstrip(";").split("; "):
        name, _, options = rule.partition(" = ")
        topic = name.partition(".")[0] or topic
        if name.startswith("."):
            name = topic + name
        rules[name] = options.split(" | ")
    return rules, [name.removesuffix(".event") for name in rules if name.endswith(".event")]


def _write(rules: Rules, kind: str, topic: str, language: str, rng: random.Random) -> str:
    """A text of one kind (``benign``, ``abuse``, ``slang``) that repeats no sentence, with the noise of typing."""
    while True:
        text = _expand(rules, kind, topic, language, rng)
        sentences = re.findall(r"[^.!?。！？]{8,}", text)
        text = _type(text, rules["emoji"], rng)
        fits = len(text) <= 100 if language == "zh" else 4 <= len(text.split()) <= 45
        if fits and len(sentences) == len(set(sentences)):
            return text


def _expand(rules: Rules, symbol: str, topic: str, language: str, rng: random.Random) -> str:
    """Expansion of one rule; the built-in ones are numbers and inflected words of the slang."""
    match symbol:
        case "n" | "d":
            return str(rng.randint(2, 48 if symbol == "n" else 9))
        case "S" | "Ss" | "Sing":
            word = _respell(rng.choice(rules["lexeme"]), rng)
            ending = "ы" if language == "ru" and symbol != "S" else symbol[1:]
            return (word.capitalize() if language == "de" else word) + ending
    option = rng.choice(rules.get(f"{topic}.{symbol}") or rules[symbol])
    parts = re.split("[{}]", option)  # text and names of rules take turns
    return "".join(_expand(rules, part, topic, language, rng) if i % 2 else part for i, part in enumerate(parts))


def _respell(word: str, rng: random.Random) -> str:
    """A word of the slang, one time in four in a variant spelling."""
    cut = rng.randrange(3, len(word) - 1)
    variants = (word.translate(str.maketrans("eoi", "301")), word[:cut] + word[cut - 1 :], f"{word[:cut]}-{word[cut:]}")
    return rng.choice((*variants, word.replace("v", "w").replace("k", "c"))) if rng.random() < 0.25 else word


def _type(text: str, emoji: list[str], rng: random.Random) -> str:
    """The text as somebody typed it: capital letters, errors and emoji, the same for every kind of post."""
    if rng.random() < 0.75:
        text = re.sub(r"(^|[.!?] )(\w)", lambda match: match[1] + match[2].upper(), text)
    shape = rng.random()
    if shape < 0.08:
        text = text.lower()
    elif shape < 0.11 and "https" not in text:
        text = text.upper()
    words = text.split(" ")
    index = rng.randrange(len(words))
    word = words[index]
    if rng.random() < 0.15 and len(word) > 4 and word.isalpha() and word.lower() != word.upper():
        cut = rng.randrange(1, len(word) - 2)
        swapped = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
        words[index] = rng.choice((swapped, word[:cut] + word[cut + 1 :], word[:cut] + word[cut - 1 :]))
        text = " ".join(words)
    if rng.random() < 0.15:
        text = text.rstrip(".。")
    return text + (" " + rng.choice(emoji) * rng.choice((1, 1, 1, 2, 3)) if rng.random() < 0.12 else "")
