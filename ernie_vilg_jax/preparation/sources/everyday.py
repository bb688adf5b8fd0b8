"""Everyday concepts of the emoji set: concrete, visually distinct things with literal names in both languages.

CLDR's names are partly playful (☕ is "hot beverage"), so the names here are our own. One picture per word: where both
a whole animal and its face exist, only one of them stands here. Faces, hands, people, flags, text and symbols are out.

Each line: the emoji, the English noun phrase, the Chinese noun, its measure word. An English name that starts with
"~" takes no article (plurals and masses).
"""

from __future__ import annotations

import dataclasses

_TABLE = """
🐒|monkey|猴子|只
🦍|gorilla|大猩猩|只
🐕|dog|狗|只
🐩|poodle|贵宾犬|只
🐺|wolf|狼|只
🦊|fox|狐狸|只
🦝|raccoon|浣熊|只
🐈|cat|猫|只
🦁|lion|狮子|头
🐅|tiger|老虎|只
🐆|leopard|豹子|只
🐎|horse|马|匹
🦄|unicorn|独角兽|只
🦓|zebra|斑马|匹
🦌|deer|鹿|只
🐄|cow|奶牛|头
🐃|water buffalo|水牛|头
🐖|pig|猪|头
🐗|boar|野猪|头
🐏|ram|公羊|只
🐑|sheep|绵羊|只
🐐|goat|山羊|只
🐫|camel|骆驼|头
🦒|giraffe|长颈鹿|只
🐘|elephant|大象|头
🦏|rhinoceros|犀牛|头
🦛|hippopotamus|河马|头
🐁|mouse|老鼠|只
🐹|hamster|仓鼠|只
🐇|rabbit|兔子|只
🐿|squirrel|松鼠|只
🦔|hedgehog|刺猬|只
🦇|bat|蝙蝠|只
🐻|bear|熊|头
🐨|koala|考拉|只
🐼|panda|熊猫|只
🦥|sloth|树懒|只
🦘|kangaroo|袋鼠|只
🦃|turkey|火鸡|只
🐓|rooster|公鸡|只
🐤|chick|小鸡|只
🐣|hatching chick|破壳的小鸡|只
🐧|penguin|企鹅|只
🕊|dove|鸽子|只
🦅|eagle|老鹰|只
🦆|duck|鸭子|只
🦢|swan|天鹅|只
🦉|owl|猫头鹰|只
🦩|flamingo|火烈鸟|只
🦚|peacock|孔雀|只
🦜|parrot|鹦鹉|只
🐸|frog|青蛙|只
🐊|crocodile|鳄鱼|条
🐢|turtle|乌龟|只
🦎|lizard|蜥蜴|只
🐍|snake|蛇|条
🐉|dragon|龙|条
🦕|sauropod|长颈龙|只
🦖|tyrannosaurus|霸王龙|只
🐋|whale|鲸鱼|头
🐬|dolphin|海豚|只
🐟|fish|鱼|条
🐠|tropical fish|热带鱼|条
🐡|blowfish|河豚|条
🦈|shark|鲨鱼|条
🐙|octopus|章鱼|只
🐚|seashell|海螺|个
🦀|crab|螃蟹|只
🦞|lobster|龙虾|只
🦐|shrimp|虾|只
🦑|squid|鱿鱼|只
🐌|snail|蜗牛|只
🦋|butterfly|蝴蝶|只
🐛|caterpillar|毛毛虫|条
🐜|ant|蚂蚁|只
🐝|bee|蜜蜂|只
🐞|ladybug|瓢虫|只
🕷|spider|蜘蛛|只
🦂|scorpion|蝎子|只
💐|bouquet|花束|束
🌸|cherry blossom|樱花|朵
🌹|rose|玫瑰|朵
🌺|hibiscus|芙蓉花|朵
🌻|sunflower|向日葵|朵
🌼|daisy|雏菊|朵
🌷|tulip|郁金香|朵
🌱|seedling|幼苗|棵
🌲|pine tree|松树|棵
🌳|tree|大树|棵
🌴|palm tree|棕榈树|棵
🌵|cactus|仙人掌|棵
🌾|~ears of rice|稻穗|株
🍀|four-leaf clover|四叶草|株
🍁|maple leaf|枫叶|片
🍄|mushroom|蘑菇|个
🍇|~grapes|葡萄|串
🍈|melon|甜瓜|个
🍉|watermelon|西瓜|块
🍊|orange|橘子|个
🍋|lemon|柠檬|个
🍌|banana|香蕉|根
🍍|pineapple|菠萝|个
🥭|mango|芒果|个
🍎|red apple|红苹果|个
🍏|green apple|青苹果|个
🍐|pear|梨|个
🍑|peach|桃子|个
🍒|~cherries|樱桃|串
🍓|strawberry|草莓|颗
🥝|kiwi|猕猴桃|个
🍅|tomato|西红柿|个
🥥|coconut|椰子|个
🥑|avocado|牛油果|个
🍆|eggplant|茄子|个
🥔|potato|土豆|个
🥕|carrot|胡萝卜|根
🌽|ear of corn|玉米|根
🌶|chili pepper|辣椒|个
🥒|cucumber|黄瓜|根
🥦|broccoli|西兰花|棵
🌰|chestnut|栗子|颗
🍞|loaf of bread|面包|个
🥐|croissant|牛角面包|个
🥖|baguette|法棍面包|根
🥨|pretzel|椒盐卷饼|个
🥞|~pancakes|薄煎饼|份
🧀|piece of cheese|奶酪|块
🍖|meat on a bone|带骨肉|块
🍗|chicken leg|鸡腿|个
🥓|~bacon|培根|份
🍔|hamburger|汉堡|个
🍟|~french fries|薯条|份
🍕|slice of pizza|披萨|块
🌭|hot dog|热狗|个
🥪|sandwich|三明治|个
🌮|taco|墨西哥卷饼|个
🥚|egg|鸡蛋|个
🍳|fried egg|煎蛋|个
🍿|~popcorn|爆米花|桶
🍙|rice ball|饭团|个
🍚|bowl of rice|米饭|碗
🍜|bowl of noodles|面条|碗
🍝|plate of spaghetti|意大利面|盘
🍣|~sushi|寿司|份
🍤|fried shrimp|炸虾|只
🥟|dumpling|饺子|个
🍦|ice cream cone|甜筒冰淇淋|个
🍩|doughnut|甜甜圈|个
🍪|cookie|饼干|块
🎂|birthday cake|生日蛋糕|个
🍰|slice of cake|蛋糕|块
🥧|pie|馅饼|个
🍫|chocolate bar|巧克力|块
🍬|candy|糖果|颗
🍭|lollipop|棒棒糖|根
🍮|pudding|布丁|个
🍯|jar of honey|蜂蜜|罐
🍼|baby bottle|奶瓶|个
🥛|glass of milk|牛奶|杯
☕|cup of coffee|咖啡|杯
🍵|cup of green tea|绿茶|杯
🍾|bottle of champagne|香槟|瓶
🍷|glass of red wine|红葡萄酒|杯
🍸|cocktail|鸡尾酒|杯
🍺|mug of beer|啤酒|杯
🥤|cup with a straw|带吸管的饮料|杯
🥢|pair of chopsticks|筷子|双
🍴|fork and knife|刀叉|副
🥄|spoon|勺子|把
🔪|kitchen knife|菜刀|把
🏺|amphora|陶罐|个
🌍|globe|地球|个
🏔|snowy mountain|雪山|座
🌋|volcano|火山|座
🏝|desert island|荒岛|座
🏠|house|房子|座
🏢|office building|办公楼|座
🏭|factory|工厂|座
🏰|castle|城堡|座
🗼|tower|铁塔|座
⛪|church|教堂|座
⛲|fountain|喷泉|座
⛺|tent|帐篷|顶
🎠|carousel horse|旋转木马|匹
🎡|ferris wheel|摩天轮|座
🎪|circus tent|马戏团帐篷|顶
🚂|steam train|蒸汽火车|列
🚄|high-speed train|高速列车|列
🚌|bus|公共汽车|辆
🚑|ambulance|救护车|辆
🚒|fire engine|消防车|辆
🚓|police car|警车|辆
🚕|taxi|出租车|辆
🚗|car|汽车|辆
🚚|truck|卡车|辆
🚜|tractor|拖拉机|辆
🏎|racing car|赛车|辆
🏍|motorcycle|摩托车|辆
🛵|scooter|小型摩托车|辆
🚲|bicycle|自行车|辆
🚦|traffic light|红绿灯|个
⚓|anchor|船锚|个
⛵|sailboat|帆船|艘
🛶|canoe|独木舟|只
🚢|ship|轮船|艘
✈|airplane|飞机|架
🚁|helicopter|直升机|架
🚀|rocket|火箭|枚
🛸|flying saucer|飞碟|个
⌚|wristwatch|手表|块
⏰|alarm clock|闹钟|个
⏳|hourglass|沙漏|个
🌙|crescent moon|弯弯的月亮|个
🌕|full moon|满月|轮
☀|sun|太阳|个
⭐|yellow star|黄色的星星|颗
☁|cloud|云|朵
🌧|rain cloud|下雨的云|朵
🌈|rainbow|彩虹|道
☂|umbrella|雨伞|把
⚡|lightning bolt|闪电|道
❄|snowflake|雪花|片
⛄|snowman|雪人|个
🔥|flame|火焰|团
💧|drop of water|水滴|滴
🎃|jack-o'-lantern|南瓜灯|个
🎄|Christmas tree|圣诞树|棵
🎈|red balloon|红气球|个
🎀|ribbon bow|蝴蝶结|个
🎁|gift box|礼物盒|个
🏆|trophy|奖杯|座
⚽|soccer ball|足球|个
⚾|baseball|棒球|个
🏀|basketball|篮球|个
🏐|volleyball|排球|个
🏈|American football|橄榄球|个
🎾|tennis racket|网球拍|个
🎳|~bowling pins|保龄球|组
🏓|table tennis paddle|乒乓球拍|个
🏸|badminton racket|羽毛球拍|个
🥊|boxing glove|拳击手套|只
⛸|ice skate|冰鞋|只
🎣|fishing rod|钓鱼竿|根
🎯|dartboard|飞镖靶|个
🎱|eight ball|台球|个
🎮|game controller|游戏手柄|个
🎲|die|骰子|个
🧸|teddy bear|泰迪熊|只
🎨|artist's palette|调色盘|个
👓|pair of glasses|眼镜|副
🕶|pair of sunglasses|墨镜|副
👕|t-shirt|T恤|件
👖|pair of jeans|牛仔裤|条
🧣|scarf|围巾|条
🧤|pair of gloves|手套|副
🧦|pair of socks|袜子|双
👗|dress|连衣裙|条
👘|kimono|和服|件
👙|bikini|比基尼|套
👜|handbag|手提包|个
🎒|backpack|书包|个
👞|leather shoe|皮鞋|只
👟|sneaker|运动鞋|只
👠|high-heeled shoe|高跟鞋|只
👢|boot|长靴|只
👑|crown|王冠|顶
🎩|top hat|礼帽|顶
🎓|graduation cap|毕业帽|顶
💍|diamond ring|钻石戒指|枚
💎|diamond|钻石|颗
🔔|bell|铃铛|个
🎤|microphone|麦克风|个
🎧|pair of headphones|耳机|副
📻|radio|收音机|台
🎷|saxophone|萨克斯管|支
🎺|trumpet|小号|把
🎸|guitar|吉他|把
🎹|piano keyboard|钢琴键盘|架
🎻|violin|小提琴|把
🥁|drum|鼓|面
📱|mobile phone|手机|部
☎|telephone|电话|部
🔋|battery|电池|节
💻|laptop|笔记本电脑|台
💿|optical disc|光盘|张
🎥|movie camera|电影摄影机|台
📺|television|电视机|台
📷|camera|照相机|台
🔍|magnifying glass|放大镜|个
🕯|candle|蜡烛|根
💡|light bulb|灯泡|个
🔦|flashlight|手电筒|个
🏮|red lantern|红灯笼|个
📖|open book|打开的书|本
📚|stack of books|书|摞
📰|newspaper|报纸|份
💰|money bag|钱袋|个
✉|envelope|信封|个
📦|cardboard box|纸箱|个
✏|pencil|铅笔|支
🖌|paintbrush|画笔|支
💼|briefcase|公文包|个
📌|pushpin|图钉|枚
📎|paper clip|回形针|枚
✂|pair of scissors|剪刀|把
🔒|padlock|挂锁|把
🔑|key|钥匙|把
🔨|hammer|锤子|把
🗡|dagger|匕首|把
💣|bomb|炸弹|枚
🏹|bow and arrow|弓箭|副
🛡|shield|盾牌|面
🔧|wrench|扳手|把
🔩|nut and bolt|螺母和螺栓|套
⚙|gear|齿轮|个
🧲|magnet|磁铁|块
🔬|microscope|显微镜|台
🔭|telescope|望远镜|台
💊|pill|药丸|颗
🚪|door|门|扇
🛏|bed|床|张
🛁|bathtub|浴缸|个
🚽|toilet|马桶|个
🧹|broom|扫帚|把
"""


@dataclasses.dataclass(frozen=True)
class Everyday:
    """A curated concept: its emoji (without U+FE0F), names, the Chinese measure word ("" = none)."""

    emoji: str
    en: str
    zh: str
    measure: str
    article: bool

    @property
    def en_phrase(self) -> str:
        """With its indefinite article: "an owl"; plurals and masses stay bare."""
        return with_article(self.en) if self.article else self.en

    @property
    def zh_phrase(self) -> str:
        """With number and measure word: 一只猫."""
        return f"一{self.measure}{self.zh}" if self.measure else self.zh


def with_article(noun_phrase: str) -> str:
    """The indefinite article by the first letter; none of our names needs the exceptions but "unicorn"."""
    vowel = noun_phrase[0].lower() in "aeiou" and not noun_phrase.startswith(("unicorn", "uni", "one", "euro"))
    return f"{'an' if vowel else 'a'} {noun_phrase}"


def _parse(table: str) -> dict[str, Everyday]:
    concepts = {}
    for line in table.strip().splitlines():
        emoji, en, zh, measure = line.split("|")
        emoji = emoji.replace("\ufe0f", "")
        concepts[emoji] = Everyday(emoji, en.removeprefix("~"), zh, measure, not en.startswith("~"))
    return concepts


EVERYDAY: dict[str, Everyday] = _parse(_TABLE)
"""Emoji (without U+FE0F) -> concept."""
